import io

from training.data.spool import CHUNK_BYTES, LineSpool, copy_content, read_chunks, temporary_file


def test_temporary_files_have_no_name(tmp_path):
    with temporary_file(tmp_path) as file:
        file.write(b"content")
        assert list(tmp_path.iterdir()) == []
        file.seek(0)
        assert file.read() == b"content"


def test_content_in_parts():
    content = bytes(CHUNK_BYTES) + b"end"
    file = io.BytesIO(content)
    file.seek(7)
    assert [len(chunk) for chunk in read_chunks(file)] == [CHUNK_BYTES, 3]
    target = io.BytesIO(b"begin")
    target.seek(5)
    copy_content(file, target)
    assert target.getvalue() == b"begin" + content


def test_lines_can_be_read_several_times(tmp_path):
    spool = LineSpool(tmp_path)
    for line in ("a", "", "c"):
        spool.add(line)
    assert spool.num_lines == 3
    assert [list(spool.lines()) for _ in range(2)] == [["a", "", "c"]] * 2
    spool.close()
    assert spool.file.closed
