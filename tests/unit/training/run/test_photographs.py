import os
from pathlib import Path

import filelock
import pytest

from dnnlib.errors import UserError
from tests.image_files import encode, random_image, write_folder, write_zip
from training.dataset import ImageFolderDataset
from training.run import photographs
from training.run.photographs import (
    Origin,
    PhotographFlags,
    compare_source,
    describe_photographs,
    prepare_photographs,
)

SIZES = [(20, 30), (16, 16), (33, 17)]


@pytest.fixture(autouse=True)
def _one_process(monkeypatch):
    monkeypatch.setattr(photographs.os, "cpu_count", lambda: 1)


@pytest.fixture
def photos(tmp_path):
    files = {f"{'car' if i else 'tree'}/{i}.png": encode(random_image(size=size)) for i, size in enumerate(SIZES)}
    return write_folder(tmp_path / "photos", files)


def prepared(tmp_path, photos, size_px=16, transform="center-crop", use_labels=False):
    return prepare_photographs(str(photos), PhotographFlags(size_px, transform), use_labels, tmp_path / "runs")


def test_photographs_become_a_dataset(tmp_path, photos, capsys):
    dest = prepared(tmp_path, photos)
    assert dest == tmp_path / "runs/datasets/photos-16px.zip"
    dataset = ImageFolderDataset(dest, use_labels=True)
    assert (len(dataset), dataset.image_shape, dataset.has_labels) == (3, [3, 16, 16], False)
    text = capsys.readouterr().out
    assert f"Wrote 3 images (16x16 RGB) to {dest}" in text
    assert "Next:" not in text


def test_the_second_time_nothing_is_prepared(tmp_path, photos, capsys):
    dest = prepared(tmp_path, photos)
    before = dest.stat()
    assert prepared(tmp_path, photos) == dest
    assert dest.stat() == before
    assert "prepared before from the same files" in capsys.readouterr().out


def touch_later(path: Path):
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


CHANGES = {
    "added": lambda photos: (photos / "new.png").write_bytes(encode(random_image())),
    "removed": lambda photos: (photos / "car/1.png").unlink(),
    "renamed": lambda photos: (photos / "car/1.png").rename(photos / "car/3.png"),
    "written anew": lambda photos: touch_later(photos / "car/1.png"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_photographs_that_have_changed_are_another_dataset(tmp_path, photos, change, capsys):
    first = prepared(tmp_path, photos)
    content = first.read_bytes()
    CHANGES[change](photos)
    second = prepared(tmp_path, photos)
    assert second == first.with_name("photos-16px-2.zip")
    assert first.read_bytes() == content  # runs that began with it continue with it
    assert "have changed; photos-16px.zip stays for earlier runs" in capsys.readouterr().out
    assert prepared(tmp_path, photos) == second


def test_hidden_files_are_no_change(tmp_path, photos):
    first = prepared(tmp_path, photos)
    (photos / ".DS_Store").touch()
    assert prepared(tmp_path, photos) == first


@pytest.mark.parametrize(("flags", "name"), [({"size_px": 8}, "photos-8px"), ({"transform": "pad"}, "photos-16px-pad")])
def test_another_way_to_prepare_them_is_another_dataset(tmp_path, photos, flags, name):
    assert prepared(tmp_path, photos).stem != prepared(tmp_path, photos, **flags).stem == name


def test_another_source_of_the_same_name(tmp_path, photos):
    first = prepared(tmp_path, photos)
    other = write_folder(tmp_path / "other/photos", {"0.png": encode(random_image())})
    assert prepared(tmp_path, other) == first.with_name("photos-16px-2.zip")
    assert prepared(tmp_path, photos) == first


def test_stretching(tmp_path, photos):
    assert prepared(tmp_path, photos, transform="stretch").read_bytes() != prepared(tmp_path, photos).read_bytes()


def test_an_interrupted_preparation_starts_again(tmp_path, photos, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(photographs, "write_dataset", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepared(tmp_path, photos)
    dest = prepared(tmp_path, photos)
    assert dest.name == "photos-16px.zip"
    assert sorted(path.name for path in dest.parent.iterdir()) == [
        ".lock",
        "photos-16px.source.json",
        "photos-16px.zip",
    ]


def test_photographs_that_change_meanwhile(tmp_path, photos, monkeypatch):
    write = photographs.write_dataset

    def and_change(*args, **kwargs):
        report = write(*args, **kwargs)
        touch_later(photos / "car/1.png")
        return report

    monkeypatch.setattr(photographs, "write_dataset", and_change)
    with pytest.raises(UserError, match="has changed while it was prepared; start again when it is complete"):
        prepared(tmp_path, photos)
    assert not list((tmp_path / "runs/datasets").glob("*.zip"))


def test_one_run_at_a_time(tmp_path, photos):
    (tmp_path / "runs/datasets").mkdir(parents=True)
    with photographs._locked(tmp_path / "runs/datasets"), pytest.raises(filelock.Timeout):
        filelock.FileLock(tmp_path / "runs/datasets/.lock").acquire(timeout=0)


def test_folders_are_classes_only_if_labels_are_used(tmp_path, photos):
    dataset = ImageFolderDataset(prepared(tmp_path, photos, use_labels=True), use_labels=True)
    assert dataset.label_dim == 2
    assert [dataset.get_label(i).argmax() for i in range(3)] == [0, 0, 1]


def test_labels_that_nobody_asked_for_may_be_incomplete(tmp_path):
    files = {"a.png": encode(random_image(size=(20, 20))), "b.png": encode(random_image(size=(20, 20)))}
    source = write_folder(tmp_path / "photos", files, labels=[["a.png", 0]])
    assert len(ImageFolderDataset(prepared(tmp_path, source))) == 2
    with pytest.raises(UserError, match="1 of 2 images have no label"):
        describe_photographs(str(source), PhotographFlags(16, "center-crop"), use_labels=True)


def test_labels_of_their_own_come_first(tmp_path):
    files = {f"{name}/0.png": encode(random_image()) for name in "abc"}
    source = write_zip(tmp_path / "photos.zip", files, [[name, i % 2] for i, name in enumerate(files)])
    assert ImageFolderDataset(prepared(tmp_path, source, use_labels=True), use_labels=True).label_dim == 2


def test_a_damaged_photograph_is_left_out_and_said(tmp_path, photos, capsys):
    (photos / "car/9.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    assert len(ImageFolderDataset(prepared(tmp_path, photos))) == 3
    assert "Skipped 1 image:" in capsys.readouterr().out


@pytest.mark.parametrize("use_labels", [False, True])
def test_the_description_is_that_of_the_dataset_and_writes_nothing(tmp_path, photos, use_labels):
    described = describe_photographs(str(photos), PhotographFlags(16), use_labels)
    assert not (tmp_path / "runs").exists()
    dataset = ImageFolderDataset(prepared(tmp_path, photos, use_labels=use_labels), use_labels=use_labels)
    found = (described.name, described.resolution, described.num_images, described.label_dim, described.num_channels)
    assert found == (dataset.name, dataset.resolution, len(dataset), dataset.label_dim, dataset.num_channels)


def test_where_a_dataset_comes_from(tmp_path, photos, monkeypatch):
    dest = prepared(tmp_path, photos)
    monkeypatch.chdir(tmp_path)
    assert compare_source(str(dest), "photos") == Origin(is_source=True, has_changed=False)
    assert compare_source(str(dest), "other") == Origin(is_source=False, has_changed=False)
    photos.rename("other")
    assert compare_source(str(dest), "other") == Origin(is_source=True, has_changed=False)
    assert compare_source(str(dest), "photos") == Origin(is_source=True, has_changed=False)
    dest.with_name("photos-16px.source.json").write_text("[]")
    assert not compare_source(str(dest), "other").is_source


@pytest.mark.parametrize(
    ("size_px", "data", "words"),
    [
        (20, "photos", "--size must be a power of two from 8 pixels, not 20"),
        (4, "photos", "--size must be a power of two from 8 pixels, not 4"),
        (16, "none", "no such file or folder"),
    ],
)
def test_mistakes(tmp_path, photos, size_px, data, words):
    with pytest.raises(UserError, match=words):
        prepared(tmp_path, tmp_path / data, size_px=size_px)


def test_a_place_for_datasets_that_cannot_be_written_to(tmp_path, photos):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/datasets").touch()
    with pytest.raises(UserError, match=r"^--outdir: .*/runs/datasets cannot be written to: File exists$"):
        prepared(tmp_path, photos)
