from comparison.picture_records import read_record, record_file, write_record


def test_a_record_lies_beside_its_picture(tmp_path):
    picture = tmp_path / "samples.png"
    assert read_record(picture) is None
    write_record(picture, {"seeds": [0, 31], "truncation_psi": 0.7})
    assert read_record(picture) == {"seeds": [0, 31], "truncation_psi": 0.7}
    assert record_file(picture) == tmp_path / "samples.json"


def test_a_damaged_record_is_none(tmp_path):
    picture = tmp_path / "boxes.png"
    for text in ("", "{", "[]", '{"seeds": NaN}'):
        record_file(picture).write_text(text)
        assert read_record(picture) is None
