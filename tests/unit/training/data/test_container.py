import io
import zipfile

import pytest

from dnnlib.util import UserError
from training.data.container import OTHER_FORMATS, check_dest, create_dataset

FILES = {"00000/a.png": b"image", "dataset.json": b"{}"}


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


@pytest.mark.parametrize("extension", OTHER_FORMATS)
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
