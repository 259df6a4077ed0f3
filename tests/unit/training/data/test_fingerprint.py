import hashlib
import os

import pytest

from dnnlib.errors import UserError
from tests.image_files import images, packed_zip, write_folder, write_zip
from training.data import fingerprint
from training.data.archive import open_archive
from training.data.fingerprint import describe_content, describe_doubt, is_unchanged

FILES = {**images(9), "\u00e4.png": b"umlaut"}
LABELS = [[name, 1] for name in FILES]
CONTAINERS = [write_folder, write_zip, packed_zip]


def store(path, write, files=FILES, labels=LABELS):
    return open_archive(write(path / f"{len(list(path.iterdir()))}.zip", files, labels))


@pytest.fixture(params=CONTAINERS)
def before(request, tmp_path):
    """What a checkpoint says about a folder or zip."""
    return describe_content(store(tmp_path, request.param))


@pytest.mark.parametrize("write", CONTAINERS)
def test_the_container_makes_no_difference(tmp_path, before, write):
    assert is_unchanged(store(tmp_path, write), before)


@pytest.mark.parametrize("write", CONTAINERS)
def test_hidden_files_make_no_difference(tmp_path, before, write):
    files = {".DS_Store": b"x", "__MACOSX/0/000.png": b"x", **FILES}
    assert is_unchanged(store(tmp_path, write, files), before)
    with_hidden, without = (describe_content(store(tmp_path, write, each)) for each in (files, FILES))
    assert {**with_hidden, "newest_ns": 0} == {**without, "newest_ns": 0}


CHANGES = {
    "another image": ({**FILES, "0/001.png": b"other"}, LABELS),
    "another name": ({("x" if name == "0/001.png" else name): data for name, data in FILES.items()}, LABELS),
    "one more": ({**FILES, "z.png": b""}, LABELS),
    "one less": (dict(list(FILES.items())[1:]), LABELS),
    "other labels": (FILES, LABELS[1:]),
    "no labels": (FILES, None),
}


@pytest.mark.parametrize("write", CONTAINERS)
@pytest.mark.parametrize("change", CHANGES)
def test_changes(tmp_path, before, write, change):
    assert not is_unchanged(store(tmp_path, write, *CHANGES[change]), before)


def test_of_a_folder_only_some_files_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "NUM_SAMPLED", 3)
    before = {write: describe_content(store(tmp_path, write)) for write in CONTAINERS}
    name, content = list(FILES.items())[1]
    files = {**FILES, name: bytes(len(content))}
    for write in CONTAINERS:
        now = store(tmp_path, write, files)
        assert is_unchanged(now, before[write_folder])
        assert not is_unchanged(now, before[write_zip])
        assert not is_unchanged(store(tmp_path, write, {**FILES, name: b"other size"}), before[write_folder])
        assert not is_unchanged(store(tmp_path, write, {**FILES, "\u00e4.png": b"other"}), before[write_folder])


@pytest.mark.parametrize("name", ["cats/dataset.json", "cats/Dataset.JSON"])
def test_labels_one_folder_deeper_are_read(tmp_path, monkeypatch, name):
    monkeypatch.setattr(fingerprint, "NUM_SAMPLED", 3)
    files = {f"cats/{each}": content for each, content in FILES.items()}
    before = describe_content(store(tmp_path, write_folder, {**files, name: b'{"labels": [["000.png", 0]]}'}, None))
    changed = {**files, name: b'{"labels": [["000.png", 1]]}'}
    assert not is_unchanged(store(tmp_path, write_folder, changed, None), before)


def test_doubt_where_a_file_that_is_not_read_was_written_since(tmp_path):
    archive = store(tmp_path, write_folder)
    before = describe_content(archive)
    file = archive.path / "0/001.png"
    newest_ns = max(path.stat().st_mtime_ns for path in archive.path.rglob("*") if path.is_file())
    assert describe_doubt(archive, before) is None
    os.utime(file, ns=(newest_ns + 1000, newest_ns + 1000))
    assert is_unchanged(archive, before)
    assert "were written after the run began" in describe_doubt(archive, before)
    os.utime(archive.path / "0/000.png", ns=(newest_ns, newest_ns))
    os.utime(file, ns=(1, 1))  # older, as after a copy that keeps times
    assert describe_doubt(archive, before) is None


@pytest.mark.parametrize("write", CONTAINERS)
def test_no_doubt_where_everything_is_read(tmp_path, write):
    for described in (describe_content(store(tmp_path, write_zip)), {}, {"newest_ns": None}, {"newest_ns": "x"}):
        assert describe_doubt(store(tmp_path, write), described) is None
    if write is not write_folder:
        assert describe_doubt(store(tmp_path, write), {"newest_ns": 0}) is None


def test_a_file_that_cannot_be_read_is_not_compared(tmp_path):
    archive = store(tmp_path, write_folder)
    (archive.path / "0/000.png").unlink()
    before = describe_content(archive)
    assert before["sample"] is None
    assert before["sizes"] is None
    assert is_unchanged(archive, before)


def test_a_file_that_can_no_longer_be_read_is_an_error_and_no_change(tmp_path):
    archive = store(tmp_path, write_folder)
    before = describe_content(archive)
    (archive.path / "0/000.png").unlink()
    with pytest.raises(UserError, match=r"0/000\.png"):
        is_unchanged(archive, before)


def older_description(archive, is_zip):
    if is_zip:
        return {"digest": archive.fingerprint()}
    return {"digest": hashlib.sha256("\n".join(archive.names).encode(errors="surrogateescape")).hexdigest()}


@pytest.mark.parametrize("write_before", CONTAINERS)
@pytest.mark.parametrize("write", CONTAINERS)
@pytest.mark.parametrize("hidden", [{}, {".DS_Store": b"x"}])
def test_descriptions_by_older_versions(tmp_path, write_before, write, hidden):
    before = older_description(store(tmp_path, write_before), write_before is not write_folder)
    assert is_unchanged(store(tmp_path, write, {**FILES, **hidden}), before)
    assert not is_unchanged(store(tmp_path, write, {**FILES, "z.png": b""}), before)


def test_no_description(tmp_path):
    archive = store(tmp_path, write_folder)
    assert is_unchanged(archive, {})
    assert is_unchanged(archive, {"digest": None})


def test_names_that_are_no_text(tmp_path):
    archive = open_archive(write_folder(tmp_path / "x", {"a\udcff.png": b"x"}))
    assert describe_content(archive)["names"] == hashlib.sha256(b"a\xff.png").hexdigest()
    assert is_unchanged(archive, describe_content(archive))
