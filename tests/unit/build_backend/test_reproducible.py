"""Archives that differ in times, permissions, owners and order become equal; names and contents stay."""

import io
import os
import tarfile
import zipfile

import pytest

from build_backend import reproducible

FILES = {"mscond/a.py": b"a" * 1000, "mscond/b.py": b"b", "mscond-1.dist-info/RECORD": b"r"}
TIME_SEC = 1_700_000_000


def make_zip(names, year, mode, method):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name in names:
            entry = zipfile.ZipInfo(name, (year, 1, 2, 3, 4, 6))
            entry.external_attr = mode << 16
            archive.writestr(entry, FILES[name])
    return buffer.getvalue()


def make_tar_gz(names, mtime, mode, owner):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        folder = tarfile.TarInfo("mscond")
        folder.type, folder.mtime, folder.mode = tarfile.DIRTYPE, mtime, 0o700
        archive.addfile(folder)
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode, entry.uid, entry.uname = len(FILES[name]), mtime, mode, 7, owner
            archive.addfile(entry, io.BytesIO(FILES[name]))
    return buffer.getvalue()


def test_zips():
    one = reproducible.same_zip(make_zip(FILES, 2001, 0o100600, zipfile.ZIP_STORED), TIME_SEC)
    other = reproducible.same_zip(make_zip(reversed(FILES), 2020, 0o100755, zipfile.ZIP_DEFLATED), TIME_SEC)
    assert one == other
    with zipfile.ZipFile(io.BytesIO(one)) as archive:
        assert archive.namelist() == ["mscond/a.py", "mscond/b.py", "mscond-1.dist-info/RECORD"]
        assert {name: archive.read(name) for name in FILES} == FILES
        assert {entry.date_time for entry in archive.infolist()} == {(2023, 11, 14, 22, 13, 20)}


def test_tars():
    one = reproducible.same_tar_gz(make_tar_gz(FILES, 5, 0o600, "me"), TIME_SEC)
    other = reproducible.same_tar_gz(make_tar_gz(reversed(FILES), 6, 0o644, "you"), TIME_SEC)
    assert one == other
    with tarfile.open(fileobj=io.BytesIO(one)) as archive:
        contents = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}
        assert contents == FILES
        assert {(member.mtime, member.uname) for member in archive} == {(TIME_SEC, "")}
        assert archive.getmember("mscond").isdir()


@pytest.mark.parametrize(
    ("value", "expected_sec"), [(None, 315532800), ("1700000000", 1_700_000_000), ("5", 315532800)]
)
def test_the_time_is_that_of_the_environment(monkeypatch, value, expected_sec):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    if value is not None:
        monkeypatch.setitem(os.environ, "SOURCE_DATE_EPOCH", value)
    assert reproducible.epoch_sec() == expected_sec
