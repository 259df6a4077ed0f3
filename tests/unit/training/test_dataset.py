import io
import pickle
import re
import shlex

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import dataset_tool
from dnnlib.errors import UserError
from tests.helpers import case_id, golden_cases
from tests.image_files import DAMAGED, encode, images, png_header, random_image, write_folder, write_zip
from training import dataset as dataset_module
from training.data.codec import BadImageError
from training.dataset import Dataset, ImageFolderDataset


class Numbers(Dataset):
    """Image i is one row of pixels, i and its complement; the images in ``damaged`` cannot be loaded."""

    def __init__(self, num_images, labels=None, damaged=(), **kwargs):
        self._labels = labels
        self._damaged = set(damaged)
        super().__init__(name="numbers", raw_shape=[num_images, 1, 1, 2], **kwargs)

    def _load_raw_image(self, raw_idx):
        if raw_idx in self._damaged:
            raise BadImageError(f"{raw_idx}.png is damaged")
        return np.array([[[raw_idx % 256, 255 - raw_idx % 256]]], dtype=np.uint8)

    def _load_raw_labels(self):
        return self._labels


def served(dataset):
    return [int(image[0, 0, 0]) for image, _ in dataset]


@pytest.mark.parametrize("case", list(golden_cases("data", what="Dataset")), ids=case_id)
def test_subset_and_mirrored_copies_are_the_reference_s(case):
    arguments, arrays = case
    dataset = Numbers(arguments["n"], **{key: arguments[key] for key in ("max_size", "xflip", "random_seed")})
    details = [dataset.get_details(idx) for idx in range(len(dataset))]
    assert [each.raw_idx for each in details] == arrays["raw_idx"].tolist()
    assert [each.xflip for each in details] == arrays["flipped"].astype(bool).tolist()


def test_mirrored_copies_follow_the_images():
    assert served(Numbers(3, xflip=True)) == [0, 1, 2, 255, 254, 253]


def test_details_of_an_index_from_the_end():
    dataset = Numbers(3, xflip=True)
    assert [dataset.get_details(idx).xflip for idx in (-1, -3, -4, -6)] == [True, True, False, False]
    assert dataset[-1][0].tolist() == dataset[5][0].tolist()


def test_index_out_of_range():
    with pytest.raises(IndexError):
        Numbers(3)[3]


def test_class_numbers_become_one_hot():
    dataset = Numbers(3, labels=np.array([2, 0, 4]), use_labels=True, xflip=True)
    assert (dataset.label_shape, dataset.label_dim, dataset.has_labels, dataset.has_onehot_labels) == (
        [5],
        5,
        True,
        True,
    )
    assert dataset.get_label(3).tolist() == dataset[0][1].tolist() == [0, 0, 1, 0, 0]
    assert dataset.get_label(0).dtype == np.float32
    assert dataset.get_details(2).raw_label == 4


WRONG_LABELS = [
    np.zeros([2, 3]),  # float64
    np.zeros([2], np.float32),
    np.zeros([2, 3], np.int64),
    np.zeros([2], np.int32),
    np.array([0, -1]),
    np.zeros([3], np.int64),
]


@pytest.mark.parametrize("labels", WRONG_LABELS, ids=lambda labels: f"{labels.dtype}{labels.tolist()}")
def test_labels_of_another_form_are_refused(labels):
    dataset = Numbers(2, labels=labels, use_labels=True)
    with pytest.raises(
        ValueError, match=r"^numbers: labels are .*; 2 images need class numbers from 0, int64 \[N\], or"
    ):
        dataset.get_label(0)


def test_vectors_are_served_as_they_are():
    labels = np.array([[0.5, 2], [1, 3]], dtype=np.float32)
    dataset = Numbers(2, labels=labels, use_labels=True)
    assert (dataset.label_shape, dataset.has_labels, dataset.has_onehot_labels) == ([2], True, False)
    label = dataset.get_label(1)
    label[0] = 9
    assert dataset.get_label(1).tolist() == [1, 3]


@pytest.mark.parametrize("kwargs", [{"labels": None, "use_labels": True}, {"labels": np.array([1, 0])}])
def test_without_labels(kwargs):
    dataset = Numbers(2, **kwargs)
    assert (dataset.label_shape, dataset.label_dim, dataset.has_labels) == ([0], 0, False)
    assert dataset[0][1].shape == (0,)


def test_labels_of_a_subset_stay_with_their_images():
    dataset = Numbers(50, labels=np.arange(50), use_labels=True, max_size=11)
    assert [int(label.argmax()) for _, label in dataset] == served(dataset)
    assert dataset.label_dim == 50


@pytest.fixture(params=[write_folder, write_zip], ids=["folder", "zip"])
def write(request, tmp_path):
    suffix = ".zip" if request.param is write_zip else ""
    return lambda *args, name="set", **kwargs: request.param(tmp_path / f"{name}{suffix}", *args, **kwargs)


def test_serves_the_pixels(write):
    dataset = ImageFolderDataset(write(images(5)), resolution=8)
    assert (dataset.name, dataset.image_shape, dataset.num_channels, dataset.resolution) == ("set", [3, 8, 8], 3, 8)
    assert len(dataset) == 5
    for seed, (image, _) in enumerate(dataset):
        assert (image.dtype, image.flags.writeable) == (np.uint8, True)
        assert np.array_equal(image.transpose(1, 2, 0), np.asarray(random_image(seed)))


def test_mirrors_the_width(write):
    dataset = ImageFolderDataset(write(images(2)), xflip=True)
    assert np.array_equal(dataset[2][0], dataset[0][0][:, :, ::-1])


def test_grey(write):
    dataset = ImageFolderDataset(write(images(1, mode="L")))
    assert dataset.image_shape == [1, 8, 8]
    assert np.array_equal(dataset[0][0][0], np.asarray(random_image(0, mode="L")))
    assert dataset[0][0].flags.writeable


def test_takes_what_pillow_knows_by_extension_in_the_order_of_paths(write):
    files = {
        "b.JPG": encode(random_image(), "JPEG"),
        "a/z.bmp": encode(random_image(), "BMP"),
        "c.txt": b"",
        "png": b"",
    }
    dataset = ImageFolderDataset(write(files))
    assert len(dataset) == 2
    assert np.array_equal(dataset[0][0].transpose(1, 2, 0), np.asarray(random_image()))


def test_files_of_systems_and_other_kinds_are_no_images(write):
    noise = ["._000.png", "__MACOSX/0/000.png", "0/@eaDir/000.png", "a.pdf", "b.psd", "c.mpg", "d.eps", "Thumbs.db"]
    dataset = ImageFolderDataset(write({**images(2), **dict.fromkeys(noise, b"noise")}))
    assert len(dataset) == 2
    assert np.array_equal(dataset[1][0].transpose(1, 2, 0), np.asarray(random_image(1)))


def test_turns_upright(write):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    dataset = ImageFolderDataset(write({"a.png": encode(random_image(), exif=exif)}))
    assert np.array_equal(dataset[0][0].transpose(1, 2, 0), np.asarray(random_image().rotate(180)))


def test_labels_from_the_file(write):
    names = images(4)
    dataset = ImageFolderDataset(
        write(names, labels=[[name, len(name) + i] for i, name in enumerate(names)]), use_labels=True
    )
    assert [int(label.argmax()) for _, label in dataset] == [9, 10, 11, 12]


def test_missing_labels_are_an_error(write):
    names = images(4)
    path = write(names, labels=[[name, 0] for name in list(names)[1:]])
    refused(path, r"1 of 4 images have no label: 0/000\.png", use_labels=True)


def test_labels_that_do_not_count_are_named(write):
    path = write({**images(4), "1/dataset.json": b"{}"})
    refused(path, "the labels in 1/dataset.json are not read", use_labels=True)
    assert not ImageFolderDataset(path).has_labels


@pytest.mark.parametrize("labels", [[["0/000.png", 0]], "nonsense", [["0/000.png", 20230000]]])
def test_labels_are_not_read_unless_they_are_used(write, labels):
    dataset = ImageFolderDataset(write(images(2), labels=labels))
    assert (dataset.has_labels, dataset.label_dim, dataset.label_summary) == (False, 0, "no labels")
    assert dataset[0][1].shape == (0,)


def test_labels_in_words(write):
    files = images(3)
    numbers = [[name, 2 * i] for i, name in enumerate(files)]
    assert ImageFolderDataset(write(files, numbers), use_labels=True).label_summary == (
        "5 classes with 1 image each, but none in 2 of them: 1, 3"
    )
    assert ImageFolderDataset(write(files, name="no"), use_labels=True).label_summary == "no labels"


def test_labels_are_parsed_once(write, monkeypatch):
    files = images(3)
    dataset = ImageFolderDataset(write(files, labels=[[name, 1] for name in files]), use_labels=True)
    monkeypatch.setattr(dataset_module, "read_labels", None)
    copy = pickle.loads(pickle.dumps(dataset))
    assert [copy.get_label(0).tolist(), dataset.get_label(2).tolist()] == [[0, 1]] * 2


def test_tells_where_the_images_are(write):
    path = write({**images(2), "dataset.json": b'{"labels": null, "resize_filter": "box"}'})
    archive = ImageFolderDataset(path).archive
    assert archive.path == path
    assert archive.metadata()["resize_filter"] == "box"


def test_smallest_images(write):
    dataset = ImageFolderDataset(write(images(2, size=(4, 4))))
    assert (dataset.resolution, dataset[1][0].shape) == (4, (3, 4, 4))


def test_pickles_and_reopens(write):
    dataset = ImageFolderDataset(write(images(3)))
    first = dataset[0][0]
    dataset.close()
    assert np.array_equal(pickle.loads(pickle.dumps(dataset))[0][0], first)
    assert np.array_equal(dataset[0][0], first)


def refused(path, match, **kwargs):
    with pytest.raises(UserError, match=match) as caught:
        ImageFolderDataset(path, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


ODD = {
    "not square": ({"a.png": random_image(size=(20, 16))}, "a.png is 20x16 RGB", 16),
    "not a power of two": ({"a.png": random_image(size=(12, 12))}, "a.png is 12x12 RGB", 8),
    "another size": ({"a.png": random_image(), "b.png": random_image(size=(16, 16))}, "b.png is 16x16 RGB", 8),
    "mixed colors": ({"a.png": random_image(), "b.png": random_image(mode="L")}, "b.png is 8x8 grey", 8),
    "transparency": ({"a.png": random_image(mode="RGBA")}, "a.png is 8x8 RGBA", 8),
    "palette": ({"a.png": random_image().quantize()}, "a.png is 8x8 P", 8),
    "too small": ({"a.png": random_image(size=(2, 2))}, "a.png is 2x2 RGB", 4),
}


@pytest.mark.parametrize("kind", ODD)
def test_names_the_first_wrong_file_and_the_command_that_mends_it(write, kind, monkeypatch):
    files, complaint, side_px = ODD[kind]
    path = write({name: encode(image) for name, image in files.items()}, name="my set")
    message = refused(path, re.escape(complaint))
    command = shlex.split(message[message.index("python dataset_tool.py") :])
    assert f"--source={path}" in command
    assert {f"--width={side_px}", f"--height={side_px}"} <= set(command)
    assert ("--transform=center-crop" in command) == (kind == "not square")
    result = CliRunner().invoke(dataset_tool.main, [*command[2:], "--workers=1"])
    assert result.exit_code == 0, result.output
    [dest] = [word.removeprefix("--dest=") for word in command if word.startswith("--dest=")]
    assert ImageFolderDataset(dest, resolution=side_px).num_channels == 3


def test_another_resolution(write):
    refused(write(images(1)), "images are 8x8 RGB, asked for resolution 16", resolution=16)


def test_no_images(write):
    refused(write({"a.txt": b""}), "no image files")


def test_no_readable_image(write):
    refused(
        write({"a.png": b"", "b.png": b""}),
        "none of the 2 image files in it can be read; the first: a.png is not an image but an empty file",
    )


def test_too_large(write):
    command = refused(write({"a.png": png_header(8192, 8192)}), "a.png is 8192x8192 RGB; training needs")
    assert "--width=4096 --height=4096" in command


def test_refused_zip(tmp_path):
    refused(write_zip(tmp_path / "set.zip", {"../a.png": b""}), r"'\.\./a\.png'")


def test_next_readable_item_takes_the_place_with_its_label(capfd):
    dataset = Numbers(4000, damaged=[5, 6, 3999], labels=np.arange(4000), use_labels=True)
    assert [(int(dataset[idx][0][0, 0, 0]), int(dataset[idx][1].argmax())) for idx in (4, 5, 6, 7, 3999)] == [
        (4, 4), (7, 7), (7, 7), (7, 7), (0, 0)
    ]  # fmt: skip
    assert dataset.num_skipped == 3
    dataset[5]
    assert capfd.readouterr().err.splitlines() == [
        f"Skipping image {raw_idx} of numbers: {raw_idx}.png is damaged" for raw_idx in (5, 6, 3999)
    ]


def test_stops_above_one_in_a_thousand():
    dataset = Numbers(2000, damaged=[1, 3, 5])
    assert [int(dataset[idx][0][0, 0, 0]) for idx in (1, 3)] == [2, 4]
    with pytest.raises(UserError, match=r"numbers: 3 of 2000 images are damaged.*5\.png is damaged"):
        dataset[5]


def test_the_share_is_of_the_images_in_use():
    dataset = Numbers(2000, damaged=range(2000), max_size=900, xflip=True)
    with pytest.raises(UserError, match="1 of 900"):
        dataset[0]


@pytest.mark.parametrize("defect", DAMAGED)
def test_every_kind_of_damage_is_met(write, defect, monkeypatch, capfd):
    monkeypatch.setattr(dataset_module, "MAX_SKIPPED_FRACTION", 0.5)
    dataset = ImageFolderDataset(write({"a.png": encode(random_image()), "b.png": DAMAGED[defect]} | images(1)))
    assert np.array_equal(dataset[2][0], dataset[0][0])
    assert dataset.num_skipped == 1
    assert re.fullmatch(r"Skipping image 2 of set: b\.png (is|has|cannot) .*\n", capfd.readouterr().err)


@pytest.mark.parametrize(
    "replacement", [None, encode(random_image(size=(16, 16))), encode(random_image(mode="L")), png_header(9, 9)]
)
def test_files_that_change_during_training(tmp_path, replacement, monkeypatch, capfd):
    monkeypatch.setattr(dataset_module, "MAX_SKIPPED_FRACTION", 0.5)
    path = write_folder(tmp_path / "set", images(2))
    dataset = ImageFolderDataset(path)
    (path / "0/000.png").unlink()
    if replacement:
        (path / "0/000.png").write_bytes(replacement)
    assert np.array_equal(dataset[0][0], dataset[1][0])
    assert "Skipping image 0 of set: 0/000.png" in capfd.readouterr().err


def test_damage_inside_a_zip_is_met(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_module, "MAX_SKIPPED_FRACTION", 0.5)
    path = write_zip(tmp_path / "set.zip", images(2))
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 20] ^= 1
    path.write_bytes(data)
    dataset = ImageFolderDataset(path)
    assert np.array_equal(dataset[0][0], dataset[1][0])


def test_of_many_images_an_odd_one_is_skipped(write, monkeypatch, capfd):
    monkeypatch.setattr("training.data.layout.MAX_HEADERS", 2)
    monkeypatch.setattr("training.data.layout.NUM_SAMPLED_HEADERS", 2)
    monkeypatch.setattr(dataset_module, "MAX_SKIPPED_FRACTION", 0.5)
    dataset = ImageFolderDataset(write({**images(3), "0/001.png": encode(random_image(size=(16, 16)))}))
    assert np.array_equal(dataset[1][0], dataset[2][0])
    line = "Skipping image 1 of set: 0/001.png is 16x16 RGB, the others are 8x8 RGB\n"
    assert capfd.readouterr().err == line


def test_names_of_damaged_images_are_escaped(write, monkeypatch, capfd):
    monkeypatch.setattr(dataset_module, "MAX_SKIPPED_FRACTION", 0.5)
    dataset = ImageFolderDataset(write({**images(1), "\x1b[2J.png": b"no image"}))
    dataset[0], dataset[1]
    assert re.match(r"Skipping image \d of set: '\\x1b\[2J\.png' is not an image", capfd.readouterr().err)


FORK_WARNING = "ignore::DeprecationWarning"  # of Python 3.12, which dislikes forks of processes with threads


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings(FORK_WARNING)
def test_workers_of_a_loader_share_the_count(method):
    dataset = Numbers(2000, damaged=[3, 1500])
    loader = torch.utils.data.DataLoader(dataset, batch_size=100, num_workers=2, multiprocessing_context=method)
    images = torch.cat([image for image, _ in loader])
    assert dataset.num_skipped == 2
    assert np.array_equal(images, [image for image, _ in dataset])


@pytest.mark.filterwarnings(FORK_WARNING)
def test_workers_of_a_loader_read_one_zip(tmp_path):
    dataset = ImageFolderDataset(write_zip(tmp_path / "set.zip", images(12)))
    expected = np.stack([image for image, _ in dataset])
    loader = torch.utils.data.DataLoader(dataset, batch_size=2, num_workers=2, multiprocessing_context="fork")
    assert np.array_equal(torch.cat([image for image, _ in loader]), expected)


def test_a_loader_passes_the_error_on(tmp_path):
    dataset = Numbers(10, damaged=[4])
    loader = torch.utils.data.DataLoader(dataset, batch_size=5)
    with pytest.raises(UserError, match="1 of 10 images are damaged"):
        list(loader)


def test_nothing_huge_is_decoded(write, monkeypatch):
    def load(image):
        raise AssertionError(f"decoded {image.size}")

    monkeypatch.setattr(Image.Image, "load", load)
    refused(write({"a.png": png_header(20000, 20000)}), "none of the 1")
    buffer = io.BytesIO(png_header(5000, 5000))
    assert Image.open(buffer).size == (5000, 5000)
    refused(write({"a.png": buffer.getvalue()}), "a.png is 5000x5000 RGB")
