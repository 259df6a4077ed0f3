import collections
import io
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import dataset_tool
from tests.dataset_tool_runs import content, fail, succeed
from tests.image_files import DAMAGED, encode, images, random_image, write_folder
from training.data.codec import HIDDEN, NOT_AN_IMAGE
from training.data.report import MAX_GROUPS, Report
from training.data.summary import summary


@pytest.fixture
def dest(tmp_path):
    return tmp_path / "out.zip"


def test_ignored_files_are_named_by_reason_and_extension(tmp_path, dest):
    ignored = [*(f"{i}.HEIC" for i in range(5)), *("a.nef", "b/c.pdf", "photo", "b\x1b[1m.psd")]
    ignored += ["._a.png", "__MACOSX/a.png"]
    source = write_folder(tmp_path / "in", {**images(1), **dict.fromkeys(ignored, b"junk")})
    lines = succeed(source=source, dest=dest).splitlines()
    start = lines.index("Ignored 11 files:")
    assert sorted(lines[start + 1 : start + 7]) == [
        "  1: not a supported image format (.nef): a.nef",
        "  1: not a supported image format (.pdf): b/c.pdf",
        "  1: not a supported image format (.psd): 'b\\x1b[1m.psd'",
        "  1: not a supported image format (no extension): photo",
        "  2: hidden (.png): ._a.png, __MACOSX/a.png",
        "  5: not a supported image format (.heic): 0.HEIC, 1.HEIC, 2.HEIC, ...",
    ]
    assert "5 HEIC images can be read with pillow-heif: pip install '.[heif]'" in lines
    assert "1 raw photograph can be used after a conversion to JPEG or TIFF" in lines


def test_what_could_be_used_is_told_among_many_kinds_of_ignored_files():
    report = Report()
    kinds = [f"{number}.x{number}" for number in range(MAX_GROUPS)]
    report.add_ignored({NOT_AN_IMAGE: [*kinds, "a.HEIC", "b.hif", "c.nef", "d.cr2"], HIDDEN: ["._a.heic"]})
    lines = list(summary(report, Path("a.zip"), 16))
    assert "  5: other reasons: a.HEIC, b.hif, c.nef, ..." in lines
    assert "2 HEIC images can be read with pillow-heif: pip install '.[heif]'" in lines
    assert "2 raw photographs can be used after a conversion to JPEG or TIFF" in lines


def test_classes_without_usable_images_are_not_numbered(tmp_path, dest):
    good = {name: encode(random_image()) for name in ("bee/b.png", "dog/d.png", "dog/e.png")}
    files = {"ape/a.png": DAMAGED["html"], "cat/c.nef": b"junk", "__MACOSX/fox/b.png": b"junk"}
    source = write_folder(tmp_path / "in", {**good, **files})
    lines = succeed("--subfolders-as-labels", source=source, dest=dest, on_error="skip").splitlines()
    assert content(dest)["dataset.json"] == {
        "labels": [[f"00000/img0000000{number}.png", label] for number, label in enumerate((0, 1, 1))],
        "class_names": ["bee", "dog"],
    }
    assert "Labels: 2 classes (number of images): bee (1), dog (2)" in lines
    assert "No class for 2 folders without usable images: ape, cat" in lines


@pytest.mark.parametrize(
    ("names", "note"), [("0129", []), ("12", ["0 is the folder 1"]), (["00", "01"], ["0 is the folder 00"])]
)
def test_folders_named_by_other_numbers_than_their_classes_are_told(tmp_path, dest, names, note):
    files = {f"{name}/x.png": encode(random_image()) for name in names}
    lines = succeed("--subfolders-as-labels", source=write_folder(tmp_path / "in", files), dest=dest).splitlines()
    notes = [line for line in lines if line.startswith("Note: classes are numbered from 0: --class=")]
    assert [line.partition("=")[2] for line in notes] == (["3 is the folder 9"] if names == "0129" else note)


def test_gaps_in_class_numbers_are_told(tmp_path, dest):
    labels = [[name, label] for name, label in zip(images(3), (0, 7, 40), strict=True)]
    source = write_folder(tmp_path / "in", images(3), labels)
    output = succeed(source=source, dest=dest)
    assert "Labels: 3 classes (number of images): 0 (1), 7 (1), 40 (1)" in output
    assert "Warning: class numbers go up to 40, but only 3 of these 41 classes have images" in output
    assert [label for _, label in content(dest)["dataset.json"]["labels"]] == [0, 7, 40]


def class_lines(counts, **report):
    """Lines about classes with a number of images each."""
    report = Report(num_written=sum(counts.values()), class_counts=collections.Counter(counts), **report)
    return [
        line for line in summary(report, "a.zip", 16) if line.startswith(("Labels", "Warning: class", "Warning: with"))
    ]


def test_many_classes_are_not_listed():
    assert class_lines(dict.fromkeys(range(10), 1)) == [
        "Labels: 10 classes (number of images): " + ", ".join(f"{number} (1)" for number in range(10))
    ]
    assert class_lines({number: number + 1 for number in range(11)}) == ["Labels: 11 classes with 1 to 11 images each"]
    assert class_lines(dict.fromkeys(range(11), 10)) == ["Labels: 11 classes with 10 images each"]


@pytest.mark.parametrize(
    ("num_classes", "num_images", "is_told"), [(100, 199, True), (100, 200, False), (99, 99, False), (1000, 1000, True)]
)
def test_class_numbers_that_look_like_ids(num_classes, num_images, is_told):
    counts = {0: 1 + num_images - num_classes, **dict.fromkeys(range(1, num_classes), 1)}
    warning = f"Warning: with {num_classes} classes for {num_images} images, the class numbers look like ids of images"
    assert class_lines(counts)[1:] == [warning] * is_told


def test_dates_as_class_numbers():
    labels, warning = class_lines({20230101: 1, 20230102: 5})
    assert labels == "Labels: 2 classes (number of images): 20230101 (1), 20230102 (5)"
    assert "but only 2 of these 20230103 classes have images" in warning


def test_class_names_cannot_act_on_a_terminal():
    (line,) = class_lines({0: 1, 1: 2}, class_names=["a\x1b[1m"])
    assert line == "Labels: 2 classes (number of images): 'a\\x1b[1m' (1), 1 (2)"


def deep_image(highest, seed=0):
    values = np.random.RandomState(seed).randint(highest + 1, size=(8, 8))
    values[0, 0] = highest
    return encode(Image.fromarray(values.astype(np.uint16)))


@pytest.mark.parametrize(("highest", "bits"), [(4095, 12), (1023, 10), (200, 8), (16383, 14)])
def test_16_bit_images_that_use_fewer_bits(tmp_path, dest, highest, bits):
    source = write_folder(tmp_path / "in", {"a.png": deep_image(highest), "b.png": encode(random_image(mode="L"))})
    warning = f"to {highest} only, which makes the dataset almost black: add --bits={bits}"
    assert warning in succeed(source=source, dest=dest)
    assert "Warning" not in succeed(source=source, dest=tmp_path / "again.zip", bits=bits)
    expected = np.asarray(Image.open(io.BytesIO(deep_image(highest)))) >> (bits - 8)
    assert np.array_equal(content(tmp_path / "again.zip")["00000/img00000000.png"], expected)


def test_16_bit_images_that_use_almost_all_bits(tmp_path, dest):
    assert "Warning" not in succeed(source=write_folder(tmp_path / "in", {"a.png": deep_image(32767)}), dest=dest)


def test_bits_that_are_too_few(tmp_path, dest):
    source = write_folder(tmp_path / "in", {"a.png": deep_image(4096)})
    fail("a.png has values up to 4096, but --bits=12 allows 4095 at most", source=source, dest=dest, bits=12)


def test_images_that_are_all_dark(tmp_path, dest):
    source = write_folder(tmp_path / "in", {"a.png": encode(random_image().point(lambda value: value & 15))})
    assert "Warning: all pixel values are between 0 and 15, out of 0 to 255" in succeed(source=source, dest=dest)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {},
            "Enlarged 2 of 3 images, by a factor of up to 2.13 (b.png)\n"
            "Stretched 2 of 3 images, changing the aspect ratio by a factor of up to 3.12 (c.png)",
        ),
        ({"transform": "center-crop"}, "Enlarged 2 of 3 images, by a factor of up to 2.13 (b.png)"),
        ({"transform": "pad"}, "Enlarged 2 of 3 images, by a factor of up to 1.6 (a.png)"),
    ],
)
def test_enlarged_and_stretched_images_are_told(tmp_path, dest, options, expected):
    sizes = {"a.png": (40, 40), "b.png": (60, 30), "c.png": (200, 64)}
    files = {name: encode(random_image(size=size)) for name, size in sizes.items()}
    output = succeed(source=write_folder(tmp_path / "in", files), dest=dest, width=64, height=64, **options)
    lines = [line.partition(";")[0] for line in output.splitlines() if line.startswith(("Enlarged", "Stretched"))]
    assert "\n".join(lines) == expected


def test_names_on_a_terminal_that_lacks_the_characters(tmp_path):
    source = write_folder(tmp_path / "in", {**images(1), "\u4e2d.txt": b""})
    arguments = [f"--source={source}", f"--dest={tmp_path / chr(0x4E2D)}.zip", "--workers=1"]
    result = CliRunner(charset="latin-1").invoke(dataset_tool.main, arguments)
    assert result.exit_code == 0, result.exception
    assert "\\u4e2d.zip" in result.output
    assert "'\\u4e2d.txt'" in result.output
