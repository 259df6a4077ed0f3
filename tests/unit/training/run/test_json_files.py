import os

import pytest

from training.run.json_files import read_json_object, read_small_file


def test_small_files(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError):
        read_small_file(path)
    path.write_bytes(b"abc")
    assert read_small_file(path, 3) == b"abc"
    with pytest.raises(ValueError, match="larger than"):
        read_small_file(path, 2)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(FileNotFoundError):
        read_small_file(path)


def test_json_objects(tmp_path):
    path = tmp_path / "file.json"
    assert read_json_object(path) is None
    path.write_text('{"a": [1, 0.5, null]}')
    assert read_json_object(path) == {"a": [1, 0.5, None]}
    assert read_json_object(path, max_bytes=5) is None


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, '{"a": NaN}', '{"a": 1e400}', f'{{"a": {"9" * 101}}}'])
def test_other_files_are_not_json_objects(tmp_path, text):
    path = tmp_path / "file.json"
    path.write_text(text)
    assert read_json_object(path) is None
