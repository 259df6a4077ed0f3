import io
import zipfile

import pytest

from training.data.stored_zip import StoredZip


def write(entries):
    file = io.BytesIO()
    archive = StoredZip(file, io.BytesIO())
    for name, data in entries.items():
        archive.add(name, io.BytesIO(data))
    archive.close()
    return file.getvalue()


def write_with_zipfile(entries):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in entries.items():
            entry = zipfile.ZipInfo(name)
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return file.getvalue()


@pytest.mark.parametrize("num_entries", [0, 1, 5, 65535, 65536])
def test_bytes_are_those_of_zipfile(num_entries):
    """Beyond 65535 entries their number needs the long fields of Zip64."""
    entries = {f"{number // 1000:05d}/img{number:08d}.png": b"%d" % number for number in range(num_entries)}
    assert write(entries) == write_with_zipfile(entries)


def test_content_is_copied_from_its_beginning():
    content = io.BytesIO(b"content")
    content.seek(3)
    file = io.BytesIO()
    archive = StoredZip(file, io.BytesIO())
    archive.add("a", content)
    archive.close()
    assert file.getvalue() == write_with_zipfile({"a": b"content"})


def write_sparse(path, start_bytes, content):
    """A zip of ``content`` and a small entry, behind a gap that takes no space on the disk."""
    with open(path, "wb") as file, open(path.with_name("directory"), "w+b") as directory:
        file.seek(start_bytes)
        archive = StoredZip(file, directory)
        archive.add("first", content)
        archive.add("second", io.BytesIO(b"2"))
        archive.close()
    return zipfile.ZipFile(path)


@pytest.mark.parametrize("start_bytes", [(1 << 31) - 1, 1 << 31, 5 << 30])
def test_offsets_of_several_gigabytes(tmp_path, start_bytes):
    with write_sparse(tmp_path / "a.zip", start_bytes, io.BytesIO(b"1")) as archive:
        assert [archive.read(name) for name in archive.namelist()] == [b"1", b"2"]
        assert archive.getinfo("first").header_offset == start_bytes


def test_sizes_in_long_fields(tmp_path, monkeypatch):
    """As for entries above 2 GiB, with a limit that is lower."""
    monkeypatch.setattr("training.data.stored_zip.LIMIT_32_BITS", 1000)
    with write_sparse(tmp_path / "a.zip", 0, io.BytesIO(bytes(1001))) as archive:
        first = archive.getinfo("first")
        assert (first.file_size, first.compress_size, first.extract_version) == (1001, 1001, 45)
        assert archive.read("first") == bytes(1001)
        assert archive.read("second") == b"2"
