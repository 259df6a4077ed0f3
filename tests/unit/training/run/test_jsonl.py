from training.run.jsonl import read_lines


def test_no_file_no_lines(tmp_path):
    assert list(read_lines(tmp_path / "missing.jsonl")) == []


def test_damaged_lines_are_passed_over(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"a": 1}\nnonsense\n[1]\n\xff\n' + b"[" * 100_000 + b'\n{"a": 2}\n{"a": 3')
    assert list(read_lines(path)) == [(1, {"a": 1}), (6, {"a": 2})]
