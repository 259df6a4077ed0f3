import tracemalloc

import pytest

from dnnlib import jsonl
from dnnlib.jsonl import MAX_LINE_BYTES, MAX_VALUE, finite, read_lines


def test_no_file_no_lines(tmp_path):
    assert list(read_lines(tmp_path / "missing.jsonl")) == []


def test_damaged_lines_are_passed_over(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"a": 1}\nnonsense\n[1]\n\xff\n' + b"[" * 100_000 + b'\n{"a": 2}\n{"a": 3')
    assert list(read_lines(path)) == [(1, {"a": 1}), (6, {"a": 2})]


@pytest.mark.parametrize("num_bytes", [10, 11, 19, 20, 21, 22, 100])
def test_lines_that_are_too_long_are_passed_over(tmp_path, monkeypatch, num_bytes):
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 10)
    path = tmp_path / "lines.jsonl"
    line = b'{"a": 1}'.ljust(num_bytes - 1) + b"\n"
    path.write_bytes(line + b'{"a": 2}\n' + b"1" * num_bytes)
    first = [(1, {"a": 1})] if num_bytes <= 10 else []
    assert list(read_lines(path)) == [*first, (2, {"a": 2})]


def test_a_file_without_line_breaks_does_not_fill_the_memory(tmp_path):
    path = tmp_path / "lines.jsonl"
    with open(path, "wb") as file:
        file.truncate(16 * MAX_LINE_BYTES)
    tracemalloc.start()
    try:
        assert list(read_lines(path)) == []
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_LINE_BYTES
    finally:
        tracemalloc.stop()


def test_numbers_that_can_be_shown():
    assert [finite(value) for value in (2, -0.5, MAX_VALUE)] == [2.0, -0.5, MAX_VALUE]
    for value in (float("nan"), float("inf"), -2 * MAX_VALUE, 10**400, True, None, "1", [1]):
        assert finite(value) is None
