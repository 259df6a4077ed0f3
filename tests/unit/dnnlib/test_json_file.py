import json

from dnnlib.json_file import write_json


def test_one_line_or_indented(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"a": [1, 2]})
    assert path.read_text() == '{"a": [1, 2]}\n'
    write_json(path, {"a": [1]}, indent=1)
    assert path.read_text() == '{\n "a": [\n  1\n ]\n}\n'
    assert json.loads(path.read_text()) == {"a": [1]}
