import json
import pickle
import zipfile

import numpy as np
import pytest

from tests.dataset_tool_runs import content, fail, other_bytes, succeed
from tests.image_files import (
    CLASSES,
    DAMAGED,
    DIGITS,
    cifar_batches,
    encode,
    idx,
    images,
    random_image,
    write_cifar,
    write_folder,
    write_mnist,
    write_zip,
)
from training.data.scenes.scene import scene
from training.dataset import ImageFolderDataset


@pytest.fixture
def dest(tmp_path):
    return tmp_path / "out.zip"


def test_result_is_what_training_expects(tmp_path, dest):
    names = images(4)
    source = write_folder(tmp_path / "in", names, labels=[[name, 3 - i] for i, name in enumerate(names)])
    assert succeed(source=source, dest=dest).splitlines() == [
        f"Wrote 4 images (8x8 RGB) to {dest}",
        "Labels: 4 classes (number of images): 0 (1), 1 (1), 2 (1), 3 (1)",
        f"Next: python train.py --outdir=runs --data={dest}",
    ]
    files = content(dest)
    assert list(files) == [f"00000/img{number:08d}.png" for number in range(4)] + ["dataset.json", "sources.jsonl"]
    assert files["dataset.json"] == {"labels": [[f"00000/img{number:08d}.png", 3 - number] for number in range(4)]}
    for seed in range(4):
        assert np.array_equal(files[f"00000/img{seed:08d}.png"], random_image(seed))
    dataset = ImageFolderDataset(dest, use_labels=True)
    assert [int(label.argmax()) for _, label in dataset] == [3, 2, 1, 0]


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        ((8, 8), {}, None),
        ((8, 8), {"width": 8, "height": 8}, None),
        ((8, 8), {"width": 16, "height": 16}, "lanczos"),
        ((16, 16), {"width": 8, "height": 8, "resize_filter": "box"}, "box"),
        ((12, 8), {"width": 8, "height": 8, "transform": "center-crop"}, None),
        ((12, 9), {"width": 8, "height": 8, "transform": "center-crop"}, "lanczos"),
        ((8, 9), {"width": 8, "height": 4, "transform": "center-crop-wide"}, None),
        ((16, 9), {"width": 8, "height": 4, "transform": "center-crop-wide", "resize_filter": "box"}, "box"),
    ],
)
def test_the_filter_is_on_record_where_images_were_resized(tmp_path, dest, size, options, expected):
    succeed(source=write_folder(tmp_path / "in", images(2, size=size)), dest=dest, **options)
    assert content(dest)["dataset.json"].get("resize_filter") == expected
    assert set(content(dest)["dataset.json"]) == ({"labels", "resize_filter"} if expected else {"labels"})
    assert not ImageFolderDataset(dest, use_labels=True).has_labels


def test_nothing_is_compressed_and_nothing_dated(tmp_path, dest):
    succeed(source=write_folder(tmp_path / "in", images(1)), dest=dest)
    with zipfile.ZipFile(dest) as archive:
        assert {(entry.compress_type, entry.date_time[0]) for entry in archive.infolist()} == {
            (zipfile.ZIP_STORED, 1980)
        }
        assert len(archive.read("00000/img00000000.png")) > 8 * 8 * 3


def test_folder_holds_the_same_files_as_the_zip(tmp_path, dest):
    source = write_zip(tmp_path / "in.zip", images(3))
    succeed(source=source, dest=dest)
    folder = tmp_path / "new/folder"
    succeed(source=source, dest=folder)
    with zipfile.ZipFile(dest) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")
        }
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


def test_same_bytes_for_any_number_of_workers(tmp_path):
    files = {**images(40, size=(20, 30)), "0/000.png": DAMAGED["truncated"], "9/027.png": DAMAGED["html"]}
    source = write_folder(tmp_path / "in", files)
    options = {"source": source, "width": 8, "height": 8, "transform": "center-crop", "on_error": "skip"}
    for workers in (1, 2):
        succeed(dest=tmp_path / f"{workers}.zip", workers=workers, **options)
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    assert (tmp_path / "1.zip.skipped.jsonl").read_text() == (tmp_path / "2.zip.skipped.jsonl").read_text()


def test_max_images_takes_the_first(tmp_path, dest):
    succeed(source=write_folder(tmp_path / "in", images(4)), dest=dest, max_images=2)
    files = content(dest)
    assert list(files) == ["00000/img00000000.png", "00000/img00000001.png", "dataset.json", "sources.jsonl"]
    assert np.array_equal(files["00000/img00000001.png"], random_image(1))


def test_a_thousand_images_fill_a_folder(tmp_path, dest):
    digits = np.zeros((1002, 28, 28), dtype=np.uint8)
    succeed(source=write_mnist(tmp_path, idx(digits), idx(digits[:, 0, 0])), dest=dest)
    assert {"00000/img00000999.png", "00001/img00001000.png", "00001/img00001001.png"} <= set(content(dest))


def test_subfolders_as_labels(tmp_path, dest):
    files = {"zebra/x/1.png": encode(random_image()), "ape/2.png": encode(random_image())}
    succeed("--subfolders-as-labels", source=write_folder(tmp_path / "in", files), dest=dest)
    assert content(dest)["dataset.json"] == {
        "labels": [["00000/img00000000.png", 0], ["00000/img00000001.png", 1]],
        "class_names": ["ape", "zebra"],
    }
    succeed(source=dest, dest=tmp_path / "again.zip")
    assert other_bytes(tmp_path / "again.zip") == other_bytes(dest)


@pytest.mark.parametrize("place", ["Dataset.JSON", "set/dataset.json"])
def test_labels_one_folder_deeper_or_in_another_case(tmp_path, dest, place):
    folder = place.rpartition("/")[0]
    files = {f"{folder}/{name}".lstrip("/"): data for name, data in images(2).items()}
    labels = json.dumps({"labels": [["0/000.png", 1], ["./0/001.png", 0]]}).encode()
    output = succeed(source=write_zip(tmp_path / "in.zip", {**files, place: labels}), dest=dest)
    assert output.splitlines()[1:-1] == ["Labels: 2 classes (number of images): 0 (1), 1 (1)"]


def test_labels_that_do_not_count_are_named(tmp_path, dest):
    files = {**images(4), "0/dataset.json": b'{"labels": [["000.png", 1]]}'}
    output = succeed(source=write_folder(tmp_path / "in", files), dest=dest)
    assert "Note: the labels in 0/dataset.json are not read, because not all files lie in its folder: move it" in output


def test_a_file_without_labels_is_pointed_out(tmp_path, dest):
    files = {**images(2), "dataset.json": b'{"Labels": [["0/000.png", 1], ["0/001.png", 0]]}'}
    output = succeed(source=write_folder(tmp_path / "in", files), dest=dest)
    assert "Note: dataset.json has no 'labels', so that no image has a label" in output
    succeed(source=dest, dest=tmp_path / "again.zip")  # which says that there are none


def test_labels_that_are_vectors_are_mentioned(tmp_path, dest):
    source = write_folder(tmp_path / "in", images(2), labels=[["0/000.png", [1, 0.5]], ["0/001.png", [0, 1]]])
    assert "Labels: vectors of 2 numbers" in succeed(source=source, dest=dest)


def test_classes_one_folder_deeper(tmp_path, dest):
    files = {f"in/{name}": data for name, data in images(4).items()} | {"in/empty/a.txt": b"", "b.txt": b""}
    output = succeed("--subfolders-as-labels", source=write_zip(tmp_path / "in.zip", files), dest=dest)
    assert "Labels: 2 classes (number of images): 0 (3), 1 (1)" in output
    assert "No class for 1 folder without usable images: empty" in output


def test_a_single_class_is_pointed_out(tmp_path, dest):
    source = write_folder(tmp_path / "in", images(2))
    output = succeed("--subfolders-as-labels", source=source, dest=dest)
    assert "Warning: all images are of one class, which is as good as no classes" in output


def test_no_labels(tmp_path, dest):
    succeed(source=write_folder(tmp_path / "in", images(1)), dest=dest)
    assert content(dest)["dataset.json"] == {"labels": None}


def test_one_missing_label_is_an_error(tmp_path, dest):
    source = write_folder(tmp_path / "in", images(2), labels=[["0/001.png", 1]])
    fail("1 of 2 images have no label: 0/000.png", source=source, dest=dest)
    assert not dest.exists()


def test_too_little_memory_ends_the_run(tmp_path, dest, monkeypatch):
    def load(_image):
        raise MemoryError

    source = write_folder(tmp_path / "in", images(2))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    fail("out of memory: use fewer --workers", source=source, dest=dest, on_error="skip")
    assert not dest.exists()


def test_labels_of_skipped_images_are_left_out(tmp_path, dest):
    files = {"a.png": encode(random_image()), "b.png": DAMAGED["html"], "c.png": encode(random_image())}
    source = write_folder(tmp_path / "in", files, labels=[["a.png", 1], ["b.png", 2], ["c.png", 3]])
    succeed(source=source, dest=dest, on_error="skip")
    assert content(dest)["dataset.json"] == {"labels": [["00000/img00000000.png", 1], ["00000/img00000001.png", 3]]}


@pytest.mark.parametrize("defect", DAMAGED)
def test_damaged_image_ends_the_run(tmp_path, dest, defect):
    source = write_folder(tmp_path / "in", {**images(2), "0/bad.png": DAMAGED[defect]})
    fail("0/bad.png ", source=source, dest=dest)
    fail("0/bad.png ", source=source, dest=tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_damaged_images_are_skipped_and_listed(tmp_path, dest):
    files = {**images(2), **{f"0/{kind}.png": data for kind, data in DAMAGED.items()}}
    output = succeed(source=write_folder(tmp_path / "in", files), dest=dest, on_error="skip")
    assert f"Skipped {len(DAMAGED)} images:" in output.splitlines()
    assert f"All skipped images are listed in {dest}.skipped.jsonl" in output.splitlines()
    skipped = [json.loads(line) for line in (tmp_path / "out.zip.skipped.jsonl").read_text().splitlines()]
    assert [each["file"] for each in skipped] == [f"0/{kind}.png" for kind in sorted(DAMAGED)]
    assert all(each["reason"].startswith(("is not", "has 20000x20000 pixels", "cannot be decoded")) for each in skipped)
    assert len(ImageFolderDataset(dest)) == 2


def test_all_images_damaged(tmp_path, dest):
    source = write_folder(tmp_path / "in", {"a.png": b"", "b.png": b""})
    fail("none of the 2 images can be used; the first: a.png is not", source=source, dest=dest, on_error="skip")
    assert not dest.exists()


@pytest.mark.parametrize(
    ("first", "second", "options", "complaint"),
    [
        (
            {"mode": "L"},
            {},
            {},
            "b.png would be 8x8 RGB, but the images before it are 8x8 grey: set --mode=rgb or --mode=grey",
        ),
        (
            {},
            {"size": (16, 16)},
            {},
            "b.png would be 16x16 RGB, but the images before it are 8x8 RGB: set --width and --height",
        ),
        (
            {"size": (9, 8)},
            {},
            {},
            "a.png would be 9x8 RGB, but training needs squares with a power-of-two side: set --width, --height",
        ),
        ({"size": (9, 8)}, {}, {"width": 8}, None),
        ({"size": (8, 9)}, {}, {"width": 8}, "a.png would be 8x9 RGB"),
        ({"mode": "L"}, {}, {"mode": "rgb"}, None),
        ({"mode": "L"}, {"mode": "RGBA"}, {"mode": "grey"}, None),
    ],
)
def test_images_must_fit_together(tmp_path, dest, first, second, options, complaint):
    files = {"a.png": encode(random_image(**first)), "b.png": encode(random_image(**second))}
    source = write_folder(tmp_path / "in", files)
    if complaint is None:
        succeed(source=source, dest=dest, **options)
        assert len(ImageFolderDataset(dest)) == 2
    else:
        fail(complaint, source=source, dest=dest, **options)


def test_too_small_images_are_left_out_of_wide_crops(tmp_path, dest):
    files = {"a.png": encode(random_image(size=(15, 15))), "b.png": encode(random_image(size=(20, 20)))}
    source = write_folder(tmp_path / "in", files)
    output = succeed(source=source, dest=dest, transform="center-crop-wide", width=16, height=12)
    assert "Wrote 1 image (16x16 RGB)" in output
    assert "smaller than 16x12" in (tmp_path / "out.zip.skipped.jsonl").read_text()


def test_every_image_is_mapped_to_its_source_file(tmp_path, dest):
    files = {"b/\u00fc.png": encode(random_image(1)), "a.png": encode(random_image(0)), "b/bad.png": b""}
    succeed(source=write_folder(tmp_path / "in", files), dest=dest, on_error="skip")
    assert content(dest)["sources.jsonl"] == [
        {"image": "00000/img00000000.png", "file": "a.png"},
        {"image": "00000/img00000001.png", "file": "b/\u00fc.png"},
    ]
    assert len(ImageFolderDataset(dest)) == 2


def test_cifar10(tmp_path, dest):
    batches = cifar_batches()
    pickles = [pickle.dumps({"data": data, "labels": labels}) for data, labels in batches]
    succeed(source=write_cifar(tmp_path / "cifar-10-python.tar.gz", pickles), dest=dest, max_images=7)
    files = content(dest)
    assert np.array_equal(files["00000/img00000002.png"].transpose(2, 0, 1).ravel(), batches[1][0][0])
    assert [label for _, label in files["dataset.json"]["labels"]] == [b for _, labels in batches for b in labels][:7]


def test_mnist(tmp_path, dest):
    succeed(source=write_mnist(tmp_path, idx(DIGITS), idx(CLASSES)), dest=dest)
    files = content(dest)
    assert np.array_equal(files["00000/img00000002.png"], np.pad(DIGITS[2], 2))
    assert [label for _, label in files["dataset.json"]["labels"]] == CLASSES.tolist()


def test_scenes(dest):
    succeed(source="scenes", max_images=3, width=16, seed=5, dest=dest)
    files = content(dest)
    drawn = [scene(5, index, 16) for index in range(3)]
    for number, (pixels, _) in enumerate(drawn):
        assert np.array_equal(files[f"00000/img{number:08d}.png"], pixels)
    assert list(files)[3:] == ["dataset.json", "objects.json"]
    assert files["objects.json"] == {
        "objects": {f"00000/img{number:08d}.png": objects for number, (_, objects) in enumerate(drawn)}
    }
    assert len(ImageFolderDataset(dest, resolution=16)) == 3


def test_drawn_and_array_images_have_no_source_files(tmp_path, dest):
    succeed(source="scenes", max_images=1, width=16, dest=dest)
    assert "sources.jsonl" not in content(dest)


def test_large_photographs_are_converted(tmp_path, monkeypatch):
    """With a limit of 100 pixels for all, and of 400 for one at a time."""
    monkeypatch.setattr("training.data.writer.MAX_IMAGE_PX", 100)
    monkeypatch.setattr("training.data.writer.MAX_PHOTO_PX", 400)
    sizes = {"a.png": (10, 10), "b.png": (11, 10), "c.png": (20, 20), "d.png": (21, 20)}
    files = {name: encode(random_image(size=size)) for name, size in sizes.items()}
    source = write_folder(tmp_path / "in", files)
    for workers in (1, 2):
        dest = tmp_path / f"{workers}.zip"
        output = succeed(source=source, dest=dest, width=8, height=8, on_error="skip", workers=workers)
        assert "Wrote 3 images" in output
        assert "has 21x20 pixels" in output
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


@pytest.mark.parametrize("make", ["full folder", "zip"])
def test_nothing_is_overwritten(tmp_path, dest, make):
    source = write_folder(tmp_path / "in", images(1))
    if make == "zip":
        dest.write_bytes(b"precious")
    else:
        dest = write_folder(tmp_path / "out", {"precious": b"precious"})
    fail(f"{dest} exists", source=source, dest=dest)


@pytest.mark.parametrize("name", ["out.zip", "out", "a/out.zip", "../link/out.zip"])
def test_the_source_is_no_place_for_the_dataset(tmp_path, name):
    source = write_folder(tmp_path / "in", images(1))
    (tmp_path / "link").symlink_to(source)
    fail("cannot be written inside --source", source=source, dest=source / name)
    assert [path.name for path in source.iterdir()] == ["0"]


def test_a_dataset_may_lie_beside_its_source(tmp_path):
    succeed(source=write_folder(tmp_path / "in", images(1)), dest=tmp_path / "in.zip")


@pytest.mark.parametrize("options", [{}, {"max_images": 1, "width": 16}])
def test_a_folder_named_scenes_is_not_taken_for_drawn_ones(tmp_path, monkeypatch, dest, options):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "scenes", images(2))
    fail("write --source=./scenes; to draw, rename it", source="scenes", dest=dest, **options)
    assert "Wrote 2 images" in succeed(source="./scenes", dest=dest)
    assert succeed("--verify", source="scenes") == "scenes: all images are good (2)\n"


def test_an_empty_text_is_no_folder(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    fail("Invalid value for '--dest': it is empty; give a path", source=tmp_path, dest="")


@pytest.mark.parametrize("name", ["../out", "."])
def test_an_empty_folder_is_no_obstacle(tmp_path, monkeypatch, name):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    succeed(source=write_folder(tmp_path / "in", images(1)), dest=name)
    assert len(ImageFolderDataset(tmp_path / "out")) == 1


def test_dest_that_cannot_be_written(tmp_path):
    source = write_folder(tmp_path / "in", images(1))
    (tmp_path / "file").touch()
    complaint = f"Invalid value for '--dest': {tmp_path}/file/out.zip: a file stands where a folder is needed"
    fail(complaint, source=source, dest=tmp_path / "file/out.zip")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"source": "nowhere"}, "--source: no such folder or zip: nowhere"),
        ({"source": "nowhere/cifar-10-python.tar.gz"}, "no such file or folder"),
        ({"source": "nowhere/car_lmdb"}, "no such file or folder"),
        ({"width": 12}, "must be a power of two from 4 pixels, not 12"),
        ({"height": 2}, "must be a power of two from 4 pixels, not 2"),
        ({"width": 8, "height": 16}, "training needs squares"),
        ({"width": 16, "height": 8}, "training needs squares"),
        ({"transform": "center-crop", "width": 8}, "--transform=center-crop needs --width and --height"),
        ({"transform": "center-crop", "width": 16, "height": 8}, "training needs squares"),
        ({"transform": "center-crop-wide", "width": 8, "height": 16}, "training needs squares"),
        ({"transform": "center-crop-wide", "width": 12, "height": 8}, "must be a power of two from 4 pixels, not 12"),
        ({"transform": "pad", "width": 8}, "--transform=pad needs --width and --height"),
        ({"transform": "pad", "width": 16, "height": 8}, "training needs squares"),
        ({"bits": 7}, "7 is not in the range"),
        ({"bits": 17}, "17 is not in the range"),
        ({"dest": "x.tar"}, "--dest=x.tar cannot be written: give a name that ends in .zip"),
        ({"dest": "x.TAR.GZ"}, "--dest=x.TAR.GZ cannot be written"),
        ({"dest": "x.7z"}, "--dest=x.7z cannot be written"),
        ({"source": "scenes", "width": 16}, "--source=scenes needs --max-images and --width"),
        ({"source": "scenes", "max_images": 1}, "--source=scenes needs --max-images and --width"),
        ({"source": "scenes", "transform": "center-crop", "max_images": 1}, "needs --width and --height"),
        ({"source": "scenes", "width": 2048, "max_images": 1}, "scenes can be 16 to 1024 pixels wide, not 2048"),
        ({"transform": "nonsense"}, "is not one of 'center-crop', 'center-crop-wide', 'pad'"),
        ({"workers": 0}, "0 is not in the range"),
    ],
)
def test_options_that_cannot_be_followed(tmp_path, dest, options, complaint):
    fail(complaint, **{"source": write_folder(tmp_path / "in", images(1)), "dest": dest, **options})
    assert not dest.exists()


@pytest.mark.parametrize("options", [[], ["--verify", "--dest=x.zip"]])
def test_either_dest_or_verify(tmp_path, options):
    fail("give either --dest, the .zip or folder to create, or --verify", *options, source=tmp_path)


def test_subfolders_of_what_has_none(tmp_path, dest):
    (tmp_path / "car_lmdb").mkdir()
    fail("has no subfolders of images", "--subfolders-as-labels", source=tmp_path / "car_lmdb", dest=dest)


@pytest.mark.parametrize(
    "flag", ["--width=8", "--max-images=1", "--mode=rgb", "--on-error=skip", "--subfolders-as-labels"]
)
def test_what_verify_does_not_do(tmp_path, flag):
    fail(f"Error: {flag.partition('=')[0]} has no effect with --verify", "--verify", flag, source=tmp_path)


def test_the_seed_belongs_to_the_scenes(tmp_path, dest):
    fail("Error: --seed has no effect without --source=scenes", "--seed=1", source=tmp_path, dest=dest)


def test_verify_is_content_with_what_the_tool_writes(tmp_path, dest):
    succeed(source=write_folder(tmp_path / "in", images(4)), dest=dest)
    assert succeed("--verify", source=dest) == f"{dest}: all images are good (4)\n"


def test_verify_lists_bad_images(tmp_path):
    source = write_folder(tmp_path / "in", {**images(2), "1/bad.png": b""})
    result = fail(f"Error: {source}: 1 bad image among 3", "--verify", source=source)
    assert result.output.splitlines()[0].startswith("1/bad.png is not an image")
