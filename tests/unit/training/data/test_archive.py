import pickle
import stat
import zipfile

import pytest

from dnnlib.util import UserError
from tests.image_files import write_folder, write_zip
from training.data import archive
from training.data.archive import open_archive

FILES = {"b/2.txt": b"two", "a.txt": b"one", "b/1.txt": b"1"}


@pytest.fixture(params=["folder", "zip"])
def files(request, tmp_path):
    if request.param == "folder":
        return open_archive(write_folder(tmp_path / "files", FILES))
    return open_archive(write_zip(tmp_path / "files.zip", FILES))


def test_names_are_sorted_paths(files):
    assert files.names == ["a.txt", "b/1.txt", "b/2.txt"]


def test_reads(files):
    assert {name: files.read(name) for name in files.names} == FILES


def test_opened_files_can_seek(files):
    with files.open("b/2.txt") as file:
        file.seek(1)
        assert file.read() == b"wo"


def test_reads_after_close(files):
    files.close()
    assert files.read("a.txt") == b"one"


def test_pickles(files):
    assert pickle.loads(pickle.dumps(files)).read("a.txt") == b"one"


@pytest.mark.parametrize("method", ["open", "read"])
def test_missing_file_is_os_error(files, method):
    with pytest.raises(FileNotFoundError, match=r"files.*c\.txt"):
        getattr(files, method)("c.txt")


def test_a_forked_process_opens_a_handle_of_its_own(tmp_path, monkeypatch):
    files = open_archive(write_zip(tmp_path / "files.zip", FILES))
    with files.open("a.txt") as of_parent:
        monkeypatch.setattr("os.getpid", lambda: -1)
        with files.open("a.txt") as of_child:
            assert of_parent._fileobj._file is not of_child._fileobj._file


# Refusals


def zip_of(path, *entries, data=b"data"):
    with zipfile.ZipFile(path, "w") as file:
        for entry in entries:
            file.writestr(entry, data)
    return path


def entry(name, **attributes):
    info = zipfile.ZipInfo(name)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info


def refused(path, match):
    with pytest.raises(UserError, match=match) as caught:
        open_archive(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil.png", r"'\.\./evil\.png' has a path with"),
        ("a/../../evil.png", "has a path with"),
        ("..\\evil.png", "has a path with"),
        ("/etc/evil.png", "has an absolute path"),
        ("C:/evil.png", "has an absolute path"),
    ],
)
def test_refuses_paths_that_lead_outside(tmp_path, name, reason):
    refused(zip_of(tmp_path / "x.zip", entry(name)), reason)


def test_refuses_null_in_name(tmp_path):
    path = zip_of(tmp_path / "x.zip", "evil_png")
    path.write_bytes(path.read_bytes().replace(b"evil_png", b"evil\0png"))
    refused(path, "null character")


def test_refuses_duplicates(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        zip_of(tmp_path / "x.zip", "a.png", "a.png")
    refused(tmp_path / "x.zip", "'a.png' appears twice")


def test_refuses_encrypted(tmp_path):
    path = zip_of(tmp_path / "x.zip", "a.png")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    refused(path, "'a.png' is encrypted")


def test_refuses_symbolic_links(tmp_path):
    refused(zip_of(tmp_path / "x.zip", entry("a.png", external_attr=(stat.S_IFLNK | 0o777) << 16)), "symbolic link")


def test_refuses_methods_that_unpack_without_bounds(tmp_path):
    refused(zip_of(tmp_path / "x.zip", entry("a.png", compress_type=zipfile.ZIP_LZMA)), "method")


def test_refuses_bombs(tmp_path):
    path = zip_of(tmp_path / "x.zip", entry("a.png", compress_type=zipfile.ZIP_DEFLATED), data=bytes(1 << 20))
    refused(path, "'a.png' unpacks to more than 200 times")


def test_refuses_huge_entries_but_json(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_ENTRY_BYTES", 3)
    refused(zip_of(tmp_path / "x.zip", "a.png"), "'a.png' unpacks to 0 MiB")
    assert open_archive(zip_of(tmp_path / "y.zip", "dataset.json")).names == ["dataset.json"]


def test_reads_no_more_than_the_declared_size(tmp_path):
    path = zip_of(tmp_path / "x.zip", entry("a.png", compress_type=zipfile.ZIP_DEFLATED), data=bytes(range(256)) * 9)
    data = bytearray(path.read_bytes())
    size_at = data.index(b"PK\x01\x02") + 24
    data[size_at : size_at + 4] = (9).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(OSError, match="CRC"):
        open_archive(path).read("a.png")


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("missing.zip", None, "no such folder or zip"),
        ("photo.png", b"png", "neither a folder nor a .zip"),
        ("broken.zip", b"PK no zip", "cannot be read as a zip"),
    ],
)
def test_refuses_what_is_no_archive(tmp_path, name, data, reason):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    refused(tmp_path / name, f"{name}.* {reason}|{reason}.*{name}")
