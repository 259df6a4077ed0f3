import io
import os
import signal
import zipfile
from pathlib import Path

import pytest

from dnnlib import signals
from dnnlib.errors import UserError
from training.data.container import OTHER_FORMATS, check_dest, create_dataset, real_path

MISTAKEN = (".png", ".jpg", ".tif", ".pkl", ".txt", ".zipx", ".json", ".csv")
"""What users have given as names of datasets."""

FILES = {"00000/a.png": b"image", "dataset.json": b"{}"}

JOB_SIGNALS = signals.available(*signals.JOB_SIGNALS)


def write_files(save):
    for name, data in FILES.items():
        save(name, io.BytesIO(data))


def test_zip(tmp_path):
    create_dataset(tmp_path / "a.ZIP", write_files)
    with zipfile.ZipFile(tmp_path / "a.ZIP") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["a.ZIP"]


@pytest.mark.parametrize("exists", [False, True])
def test_folder(tmp_path, exists):
    folder = tmp_path / "v1.5"
    if exists:
        folder.mkdir()
    create_dataset(folder, write_files)
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["v1.5"]


@pytest.mark.parametrize("name", ["a.zip", "a"])
def test_nothing_is_left_of_a_failure(tmp_path, name):
    def fail_at_the_end(save):
        write_files(save)
        assert len(list(tmp_path.iterdir())) == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create_dataset(tmp_path / name, fail_at_the_end)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("signum", JOB_SIGNALS)
@pytest.mark.parametrize("name", ["a.zip", "a"])
def test_signals_leave_nothing(tmp_path, name, signum):
    before = [signal.signal(number, signal.SIG_DFL) for number in JOB_SIGNALS]
    seen = []

    def be_stopped(save):
        write_files(save)
        try:
            os.kill(os.getpid(), signum)
        finally:
            seen.extend(signal.getsignal(number) for number in JOB_SIGNALS)

    try:
        with pytest.raises(SystemExit) as caught:
            create_dataset(tmp_path / name, be_stopped)
        assert caught.value.code == 128 + signum
        assert seen == [signal.SIG_IGN] * len(JOB_SIGNALS)  # another one must not disturb the cleaning up
        assert [signal.getsignal(number) for number in JOB_SIGNALS] == [signal.SIG_DFL] * len(JOB_SIGNALS)
    finally:
        for number, handler in zip(JOB_SIGNALS, before, strict=True):
            signal.signal(number, handler)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None], ids=["nohup", "handler"])
def test_signals_that_kill_nobody_are_left_alone(tmp_path, handler):
    before = signal.signal(signal.SIGHUP, handler)

    def be_signaled(save):
        write_files(save)
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is handler

    try:
        create_dataset(tmp_path / "a", be_signaled)
        assert signal.getsignal(signal.SIGHUP) is handler
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_empty_folder_stays_the_same_folder(tmp_path):
    """As a mount point it cannot be replaced, and the shell whose current folder it is would lose it."""
    (tmp_path / "a").mkdir(0o700)
    before = (tmp_path / "a").stat()
    create_dataset(tmp_path / "a", write_files)
    after = (tmp_path / "a").stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["00000", "dataset.json"]


@pytest.mark.parametrize(
    ("name", "theirs", "exists"),
    [("a.zip", "a.zip", False), ("a", "a/dataset.json", False), ("a", "a/dataset.json", True)],
)
def test_what_another_process_created_meanwhile_is_kept(tmp_path, name, theirs, exists):
    if exists:
        (tmp_path / name).mkdir()

    def write_too_late(save):
        write_files(save)
        (tmp_path / theirs).parent.mkdir(exist_ok=True)
        (tmp_path / theirs).write_bytes(b"theirs")

    with pytest.raises(UserError, match="created by another process meanwhile: choose another --dest"):
        create_dataset(tmp_path / name, write_too_late)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == {tmp_path / theirs: b"theirs"}


@pytest.mark.parametrize("extension", sorted({*OTHER_FORMATS, *MISTAKEN}))
def test_other_formats_are_refused(tmp_path, extension):
    for dest in (tmp_path / f"a{extension}", tmp_path / f"a{extension.upper()}"):
        with pytest.raises(UserError, match=r"cannot be written: give a name that ends in \.zip"):
            check_dest(dest, tmp_path / "in")


@pytest.mark.parametrize("name", ["a.zip", "A.ZIP", "photos", "photos.v2", "tar", "cats.and.dogs"])
def test_zips_and_folders_are_accepted(tmp_path, name):
    (tmp_path / "in").mkdir()
    check_dest(tmp_path / name, tmp_path / "in")
    check_dest(tmp_path / "in" / name, None)


@pytest.mark.parametrize("dest", ["in/a.zip", "in", "in/b/c", "link/a.zip", "b/../in/a.zip"])
@pytest.mark.parametrize("source", ["in", "link"])
def test_dest_must_not_become_input(tmp_path, monkeypatch, dest, source):
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to("in")
    monkeypatch.chdir(tmp_path)
    for prefix in ("", f"{tmp_path}/"):
        with pytest.raises(UserError, match="cannot be written inside --source"):
            check_dest(tmp_path.joinpath(f"{prefix}{dest}"), tmp_path / source)


def test_what_exists_is_kept(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.zip").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    (tmp_path / "file").touch()
    (tmp_path / "file.zip").touch()
    check_dest(tmp_path / "empty", tmp_path / "in")
    for name in ("empty.zip", "full", "file", "file.zip"):
        with pytest.raises(UserError, match="exists: delete it or choose another --dest"):
            check_dest(tmp_path / name, tmp_path / "in")


@pytest.mark.parametrize(
    ("name", "expected"), [("", "here"), (".", "here"), ("link", "there"), ("new.zip", "real.zip")]
)
def test_links_and_dots_are_resolved(tmp_path, monkeypatch, name, expected):
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    (tmp_path / "here/link").symlink_to("../there")
    (tmp_path / "here/new.zip").symlink_to("../real.zip")
    monkeypatch.chdir(tmp_path / "here")
    assert real_path(Path(name)) == tmp_path / expected


def test_a_folder_with_a_parent_that_cannot_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=f"cannot be written to: .* such as --dest={tmp_path}/out/dataset$"):
        check_dest(tmp_path / "out", None)
    check_dest(tmp_path / "out/dataset", None)
