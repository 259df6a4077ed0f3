import codecs
import json

import pytest

from training.data import json_stream
from training.data.json_stream import JsonStream

VALUES = [
    0,
    -1.5e-7,
    "a\n\u00e4\U0001f600\ud800",
    True,
    None,
    [],
    {},
    [[1, {"a": [2]}], "]"],
    {"a": {"b": ",]"}},
    12345,
]


@pytest.fixture(params=[1, 2, 3, 7, 1 << 18])
def chunk_bytes(request, monkeypatch):
    monkeypatch.setattr(json_stream, "_CHUNK_BYTES", request.param)
    return request.param


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_items(chunk_bytes, encoding, indent):
    data = json.dumps(VALUES, indent=indent, ensure_ascii=False).encode(encoding, "surrogatepass")
    stream = JsonStream(data)
    assert list(stream.items()) == json.loads(data) == VALUES
    stream.end()


def test_object_keys(chunk_bytes):
    content = {str(index): value for index, value in enumerate(VALUES)}
    stream = JsonStream(json.dumps(content).encode())
    assert {key: stream.value() for key in stream.object_keys()} == content
    stream.end()


@pytest.mark.parametrize("value", VALUES)
def test_skip(chunk_bytes, value):
    stream = JsonStream(json.dumps([value]).encode()[1:])
    stream.skip()
    assert stream.next_char() == "]"


@pytest.mark.parametrize("number", ["1e+9", "1.25", "-0.5E-3", "100", "-Infinity"])
def test_numbers_at_the_end_of_a_chunk(monkeypatch, number):
    for size in range(1, 12):
        monkeypatch.setattr(json_stream, "_CHUNK_BYTES", size)
        assert list(JsonStream(f"[{number},{number}]".encode()).items()) == [float(number)] * 2
        assert JsonStream(number.encode()).value() == float(number)


def read_all(data: bytes):
    stream = JsonStream(data)
    stream.skip()
    stream.end()


VALID = b'{"a": [1, -2.5e+3, "\\u00e4\xc3\xa4\\n", {"b": null}], "c": {"d": [true, false]}, "e": []}'


def test_accepts_what_the_standard_library_accepts(monkeypatch):
    monkeypatch.setattr(json_stream, "_CHUNK_BYTES", 5)
    read_all(VALID)
    for position in range(len(VALID)):
        for replacement in (b"", b",", b"]", b'"', b"}", b"0", b" ", b"\xff", b"\\"):
            data = VALID[:position] + replacement + VALID[position + 1 :]
            try:
                json.loads(data)
            except ValueError:
                with pytest.raises(ValueError, match=r"\w"):
                    read_all(data)
            else:
                read_all(data)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "Expecting value at character 0"),
        (b"[1 2]", "',' or ']' is missing at character 3"),
        (b'{"a" 1}', "':' is missing at character 5"),
        (b"{1: 2}", "a key in double quotes is missing at character 1"),
        (b"[1] 2", "something follows the end at character 4"),
    ],
)
def test_problems_have_a_place(data, problem):
    with pytest.raises(ValueError, match=f"^{problem}$"):
        read_all(data)


def test_places_count_from_the_start(monkeypatch):
    monkeypatch.setattr(json_stream, "_CHUNK_BYTES", 4)
    with pytest.raises(ValueError, match=r"^Expecting value at character 301$"):
        read_all(b"[" + b"1, " * 100 + b"]" + b"," * 9)


def test_long_values_are_refused(monkeypatch):
    monkeypatch.setattr(json_stream, "_CHUNK_BYTES", 16)
    monkeypatch.setattr(json_stream, "MAX_VALUE_CHARS", 100)
    read_all(json.dumps(["a" * 90] * 9).encode())
    with pytest.raises(ValueError, match="Unterminated string starting at within 100 characters at character 6"):
        read_all(json.dumps([1, "", "a" * 500]).replace(" ", "").encode())


def test_a_long_value_is_scanned_few_times(monkeypatch):
    monkeypatch.setattr(json_stream, "_CHUNK_BYTES", 1)
    scans = []
    scan = json_stream._scan
    monkeypatch.setattr(json_stream, "_scan", lambda *args: scans.append(args) or scan(*args))
    assert JsonStream(codecs.BOM_UTF8 + b'"' + b"a" * 10_000 + b'"').value() == "a" * 10_000
    assert len(scans) < 40
