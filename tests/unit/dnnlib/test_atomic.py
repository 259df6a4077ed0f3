import contextlib
import errno
import os
import stat

import pytest

from dnnlib.atomic import append_line, commit, write_atomic


def test_writes_bytes_and_what_a_function_writes(tmp_path):
    write_atomic(tmp_path / "a", b"bytes")
    assert (tmp_path / "a").read_bytes() == b"bytes"
    write_atomic(str(tmp_path / "a"), lambda file: file.write(b"new"))
    assert (tmp_path / "a").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_new_file_has_ordinary_permissions(tmp_path):
    (tmp_path / "ordinary").touch()
    write_atomic(tmp_path / "a", b"")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "ordinary").stat().st_mode)


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_keeps_the_old_file_and_leaves_no_other(tmp_path, failure):
    (tmp_path / "a").write_bytes(b"old")

    def write(file):
        file.write(b"half of the n")
        raise failure

    with pytest.raises(type(failure)):
        write_atomic(tmp_path / "a", write)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_atomic(tmp_path / "absent" / "a", b"")
    assert caught.value.filename == str(tmp_path / "absent" / "a"), "not that of the temporary file"


def test_content_reaches_the_disk_before_the_name_and_the_name_before_the_return(tmp_path, monkeypatch):
    events = []
    fsync = os.fsync

    def watch(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        written = (tmp_path / "a").exists()
        events.append(("folder" if is_folder else "file", written))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    write_atomic(tmp_path / "a", b"x")
    assert events == [("file", False), ("folder", True)]


def test_a_file_made_by_others_gets_ordinary_permissions(tmp_path):
    (tmp_path / "ordinary").touch()
    (tmp_path / "temp").touch(mode=0o600)
    commit(tmp_path / "temp", tmp_path / "a")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "ordinary").stat().st_mode)


def test_a_full_disk_says_where(tmp_path):
    def write(_file):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path / 'a'}'"):
        write_atomic(tmp_path / "a", write)


def test_lines_are_appended_and_stay_whole(tmp_path):
    append_line(tmp_path / "a", "first")
    append_line(tmp_path / "a", "second")
    assert (tmp_path / "a").read_bytes() == b"first\nsecond\n"
    (tmp_path / "a").write_bytes(b"first\nsec")
    append_line(str(tmp_path / "a"), "third")
    assert (tmp_path / "a").read_bytes() == b"first\nsec\nthird\n"


@pytest.mark.parametrize(("number", "is_fatal"), [(errno.EINVAL, False), (errno.ENOSYS, False), (errno.EIO, True)])
def test_folders_that_cannot_be_synced(tmp_path, monkeypatch, number, is_fatal):
    sync = os.fsync

    def sync_files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", sync_files_only)
    with pytest.raises(OSError, match="Input/output") if is_fatal else contextlib.nullcontext():
        write_atomic(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"
