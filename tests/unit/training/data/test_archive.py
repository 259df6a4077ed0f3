import hashlib
import json
import os
import pickle
import stat
import zipfile
import zlib

import pytest

from dnnlib.errors import UserError
from tests.image_files import images, packed_zip, write_folder, write_zip
from training.data import archive_base, folder_archive, names, zip_archive, zip_contents
from training.data.archive import open_archive

FILES = {"b/2.txt": b"two", "a.txt": b"one", "b/1.txt": b"1"}


@pytest.fixture(params=["folder", "zip", "packed zip"])
def files(request, tmp_path):
    if request.param == "folder":
        return open_archive(write_folder(tmp_path / "files", FILES))
    write = write_zip if request.param == "zip" else packed_zip
    return open_archive(write(tmp_path / "files.zip", FILES))


def test_names_are_sorted_paths(files):
    assert files.names == ["a.txt", "b/1.txt", "b/2.txt"]


def test_reads(files):
    assert {name: files.read(name) for name in files.names} == FILES


def test_opened_files_can_seek(files):
    with files.open("b/2.txt") as file:
        file.seek(1)
        assert file.read() == b"wo"
        file.seek(-3, os.SEEK_END)
        assert file.read(1) == b"t"
        file.seek(1, os.SEEK_CUR)
        assert (file.tell(), file.read(9), file.read()) == (2, b"o", b"")


def test_files_are_read_in_turns(files):
    with files.open("b/2.txt") as one, files.open("a.txt") as two:
        assert (one.read(1), two.read(1), files.read("b/1.txt"), one.read(), two.read()) == (
            b"t", b"o", b"1", b"wo", b"ne"
        )  # fmt: skip


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
    of_parent = files._handle()
    assert files._handle() is of_parent
    monkeypatch.setattr("os.getpid", lambda: -1)
    of_child = files._handle()
    assert of_child is not of_parent
    assert files.read("a.txt") == b"one"


def test_a_process_reads_the_table_of_contents_once(tmp_path, monkeypatch):
    files = open_archive(write_zip(tmp_path / "files.zip", FILES))
    copy = pickle.dumps(files)
    monkeypatch.setattr(zip_archive, "read_contents", None)
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert files.read("a.txt") == pickle.loads(copy).read("a.txt") == b"one"
    files.close()
    assert files.read("a.txt") == b"one"


def expected_fingerprint(files):
    """As written down on disk by caches of older versions."""
    rows = sorted((name, len(data), zlib.crc32(data)) for name, data in files.items())
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


MANY = {f"{number % 3}/\u00e4{number}.txt": str(number).encode() for number in range(50)}


@pytest.mark.parametrize("files", [{}, {"a.txt": b"one"}, FILES, {**FILES, ".hidden": b"x"}, MANY], ids=len)
def test_fingerprint(tmp_path, files, monkeypatch):
    monkeypatch.setattr(archive_base, "_ROWS_PER_CHUNK", 2)
    monkeypatch.setattr(names, "_NAMES_PER_CHUNK", 3)
    monkeypatch.setattr(zip_contents, "_NAMES_PER_CHUNK", 3)
    (tmp_path / "files").mkdir()
    expected = expected_fingerprint(files)
    assert open_archive(write_folder(tmp_path / "files", files)).fingerprint() == expected
    assert open_archive(write_zip(tmp_path / "a.zip", files)).fingerprint() == expected
    assert open_archive(packed_zip(tmp_path / "b.zip", dict(reversed(files.items())))).fingerprint() == expected


def test_fingerprint_of_a_folder_is_computed_again_only_after_changes(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "files", FILES)
    read = []
    crc32 = folder_archive._crc32
    monkeypatch.setattr(folder_archive, "_crc32", lambda path: read.append(path) or crc32(path))
    before = open_archive(folder).fingerprint()
    assert open_archive(folder).fingerprint() == before
    assert len(read) == 3
    (folder / "a.txt").write_bytes(b"eno")
    os.utime(folder / "a.txt", ns=(0, 0))
    assert open_archive(folder).fingerprint() != before
    assert len(read) == 6


def test_fingerprint_of_files_that_vanished(tmp_path):
    files = open_archive(write_folder(tmp_path / "files", FILES))
    (tmp_path / "files/a.txt").unlink()
    with pytest.raises(UserError, match=r"files: a\.txt cannot be read: No such file"):
        files.fingerprint()


def metadata(path, content):
    return open_archive(write_zip(path / "x.zip", {"dataset.json": content})).metadata()


def test_metadata(tmp_path):
    assert metadata(tmp_path, b'{"labels": null, "resize_filter": "box"}') == {"labels": None, "resize_filter": "box"}


def test_no_metadata(files):
    assert files.metadata() == {}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be read as JSON"),
        (b"\xff", "cannot be read as JSON"),
        (b"[1]", r'holds no object, allowed: \{"labels"'),
        (b'{"a":' * 2000 + b"1" + b"}" * 2000, "cannot be read as JSON"),
        (b'{"labels": null', "cannot be read as JSON: ',' or '}' is missing at character 15"),
        (b"{} {}", "cannot be read as JSON: something follows the end at character 3"),
        (b"1" + b"0" * 5000, "cannot be read as JSON"),
    ],
)
def test_malformed_metadata(tmp_path, content, reason):
    with pytest.raises(UserError, match=rf"x\.zip: dataset\.json {reason}") as caught:
        metadata(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_labels_are_given_to_their_reader(tmp_path):
    labels = [["a.png", [0]]] * 5000
    write_folder(
        tmp_path, {"dataset.json": json.dumps({"other": [{}], "labels": labels, "class_names": ["a"]}).encode()}
    )
    content = open_archive(tmp_path).metadata(lambda stream: list(stream.items()))
    assert content == {"labels": labels, "class_names": ["a"]}


def test_line_drawings_are_no_bombs(tmp_path):
    files = open_archive(packed_zip(tmp_path / "x.zip", {"a.png": bytes(8 << 20)}))
    assert files.read("a.png") == bytes(8 << 20)


@pytest.mark.parametrize(
    ("write", "module", "limit"),
    [
        (write_zip, zip_archive, "MAX_FILE_BYTES"),
        (packed_zip, zip_archive, "MAX_UNPACKED_BYTES"),
        (write_folder, folder_archive, "MAX_FILE_BYTES"),
    ],
)
def test_files_above_the_limit_are_not_read(tmp_path, monkeypatch, write, module, limit):
    monkeypatch.setattr(module, limit, 1 << 20)
    files = open_archive(write(tmp_path / "x.zip", {"a.png": bytes(1 << 20), "b.png": bytes((1 << 20) + 1)}))
    assert len(files.read("a.png")) == 1 << 20
    with pytest.raises(OSError, match=r"has 1\.0 MiB, at most 1\.0 are allowed"):
        files.read("b.png")


def test_metadata_may_be_larger_than_other_files(tmp_path, monkeypatch):
    for module in (folder_archive, zip_archive):
        monkeypatch.setattr(module, "MAX_FILE_BYTES", 9)
    monkeypatch.setattr(zip_archive, "MAX_UNPACKED_BYTES", 9)
    for write in (write_folder, write_zip, packed_zip):
        files = {"dataset.json": b'{"labels": null}', "objects.json": b'{"objects": {}}'}
        opened = open_archive(write(tmp_path / f"{write.__name__}.zip", files))
        assert opened.metadata()
        assert opened.read("objects.json") == files["objects.json"]


def test_metadata_is_unpacked_only_if_it_is_in_proportion_to_the_zip(tmp_path, monkeypatch):
    monkeypatch.setattr(zip_archive, "MAX_EXTRA_JSON_BYTES", 1000)
    content = b'{"labels": null}' + b" " * 100_000
    with pytest.raises(UserError, match=r"dataset\.json cannot be read as JSON: has 0\.1 MiB, at most 0\.0 are"):
        open_archive(packed_zip(tmp_path / "x.zip", {"dataset.json": content})).metadata()
    files = {"dataset.json": content, "a.png": os.urandom(100_000)}
    assert open_archive(packed_zip(tmp_path / "y.zip", files)).metadata()
    assert open_archive(write_zip(tmp_path / "z.zip", {"dataset.json": content})).metadata()


def lying_zip(path, data, stated_bytes):
    """A zip with one packed entry whose stated size is another than its own."""
    content = bytearray(packed_zip(path, {"a.png": data}).read_bytes())
    size_at = content.index(b"PK\x01\x02") + 24
    content[size_at : size_at + 4] = stated_bytes.to_bytes(4, "little")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("stated_bytes", [0, 9, 2303, 2305])
def test_reads_no_more_than_the_declared_size(tmp_path, monkeypatch, stated_bytes):
    unpacked = []
    inflate = zip_archive._inflate
    monkeypatch.setattr(zip_archive, "_inflate", lambda *args: unpacked.append(inflate(*args)) or unpacked[-1])
    path = lying_zip(tmp_path / "x.zip", bytes(range(256)) * 9, stated_bytes)
    for method in ("read", "open"):
        with pytest.raises(OSError, match="CRC"):
            getattr(open_archive(path), method)("a.png")
    assert len(unpacked) == 2
    assert max(map(len, unpacked)) <= stated_bytes + 1


@pytest.mark.parametrize("write", [write_zip, packed_zip])
def test_every_damaged_byte_of_an_entry_is_noticed_or_without_effect(tmp_path, write):
    data = os.urandom(20) + bytes(20)
    path = write(tmp_path / "x.zip", {"a.png": data})
    good = path.read_bytes()
    for position in range(good.index(b"PK\x01\x02")):
        damaged = bytearray(good)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        try:
            assert open_archive(path).read("a.png") == data
        except OSError:
            continue
        assert position not in (*range(4), *range(8, 10), *range(26, 30)), position
    path.write_bytes(bytes(4) + good[4:])
    with pytest.raises(OSError, match="is not where the zip states"):
        open_archive(path).read("a.png")


def test_an_entry_under_another_name_is_noticed(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"a.png": b"a", "b.png": b"b"})
    path.write_bytes(path.read_bytes().replace(b"a.png", b"c.png", 1))
    files = open_archive(path)
    assert files.read("b.png") == b"b"
    for method in ("read", "open"):
        with pytest.raises(OSError, match="is another file than the zip states"):
            getattr(files, method)("a.png")


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


@pytest.mark.parametrize("name", ["a..b.png", "a:b.png", "..a/b.png"])
def test_accepts_other_dots_and_colons(tmp_path, name):
    assert open_archive(zip_of(tmp_path / "x.zip", entry("A.png"), entry("img" + name))).names == [
        "A.png",
        "img" + name,
    ]


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


def test_refuses_a_pipe_with_the_name_of_a_zip(tmp_path):
    os.mkfifo(tmp_path / "x.zip")
    refused(tmp_path / "x.zip", "neither a folder nor a .zip")


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("missing.zip", None, "no such folder or zip"),
        ("photo.png", b"png", "neither a folder nor a .zip: give a folder or zip of images; archives of other kinds"),
        ("download", b"PK\x03\x04", "neither a folder nor a .zip: by its content it is a zip, so rename it to"),
        ("array.npz", b"PK\x03\x04", "neither a folder nor a .zip: give a folder or zip of images"),
        ("broken.zip", b"PK no zip", "cannot be read as a zip"),
    ],
)
def test_refuses_what_is_no_archive(tmp_path, name, data, reason):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    refused(tmp_path / name, f"{name}.* {reason}|{reason}.*{name}")


def test_links_and_special_files_are_told(tmp_path):
    folder = write_folder(tmp_path / "files", images(1))
    (folder / "gone.png").symlink_to("nowhere")
    assert open_archive(folder).ignored == {"broken link": ["gone.png"]}


def test_a_path_that_the_system_refuses():
    with pytest.raises(UserError, match=r"^/x{96}\.\.\. cannot be read: File name too long$"):
        open_archive("/" + "x" * 1000)
