from pathlib import Path

import pytest
from PIL import Image

from dnnlib.errors import UserError
from tests.image_files import DAMAGED, encode, images, random_image, write_folder, write_zip
from training.data.container import check_dest
from training.data.verification import verify

NEEDS = "training needs equal squares with a power-of-two side, all RGB or all grey; make them with"


def refused(match, source, num_workers=1):
    """Lines about bad images before `verify` raises an error that ``match``es."""
    lines = []
    with pytest.raises(UserError) as error:
        verify(str(source), num_workers, lines.append)
    assert match in str(error.value)
    return lines


def test_good_images(tmp_path):
    assert verify(str(write_zip(tmp_path / "in.zip", images(4))), 1, pytest.fail) == 4


@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_verify_lists_every_bad_image(tmp_path, write):
    files = {
        **images(2),
        **{f"1/{kind}.png": data for kind, data in DAMAGED.items()},
        "2/grey.png": encode(random_image(mode="L")),
        "2/large.png": encode(random_image(size=(16, 16))),
        "2/16bit.png": encode(Image.new("I;16", (8, 8))),
        "2/palette.png": encode(random_image().quantize()),
        "2/cmyk.jpg": encode(Image.new("CMYK", (8, 8)), "JPEG"),
    }
    source = write(tmp_path / "in.zip", files)
    lines = refused(f"{len(files) - 2} bad images among {len(files)}", source, num_workers=2)
    assert [line.split(".")[0] for line in lines] == [name.split(".")[0] for name in sorted(files)[2:]]
    assert "2/grey.png is 8x8 grey, the first image is 8x8 RGB" in lines


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        (
            images(3, size=(20, 30)),
            "its images are 20x30 RGB; {needs}: python dataset_tool.py --source={source} --dest={folder}/in-16.zip "
            "--width=16 --height=16 --transform=center-crop",
        ),
        (
            {"a.png": encode(random_image(size=(9, 9))), "b.png": encode(random_image(size=(20, 30), mode="L"))},
            "its images range from 9x9 RGB to 20x30 grey; {needs}: python dataset_tool.py --source={source} "
            "--dest={folder}/in-16.zip --width=16 --height=16 --transform=center-crop --mode=rgb",
        ),
        (
            {"a.png": encode(random_image(size=(20, 30))), "b.png": encode(random_image(size=(40, 40), mode="L"))},
            "its images range from 20x30 RGB to 40x40 grey; {needs}: python dataset_tool.py --source={source} "
            "--dest={folder}/in-16.zip --width=16 --height=16 --transform=center-crop --mode=rgb",
        ),
    ],
)
def test_verify_of_an_unprepared_folder_says_so_once(tmp_path, files, complaint):
    source = write_folder(tmp_path / "in", files)
    complaint = complaint.format(source=source, folder=tmp_path, needs=NEEDS)
    assert refused(f"{source} is not a prepared dataset: {complaint}", source) == []


@pytest.mark.parametrize("name", [".", "../in", "deep/.."])
def test_the_suggested_place_is_not_inside_the_source(tmp_path, monkeypatch, name):
    source = write_folder(tmp_path / "in", images(2, size=(20, 30)))
    (source / "deep").mkdir()
    monkeypatch.chdir(source)
    with pytest.raises(UserError) as error:
        verify(name, 1, pytest.fail)
    (dest,) = [word for word in str(error.value).split() if word.startswith("--dest=")]
    check_dest(Path(dest.removeprefix("--dest=")), Path(name))
    assert dest.endswith("/in-16.zip")


def test_verify_of_an_unprepared_folder_lists_damaged_images(tmp_path):
    source = write_folder(tmp_path / "in", {**images(3, size=(20, 30)), "9/bad.png": b""})
    (line,) = refused("its images are 20x30 RGB; 1 bad image among 4; training needs", source)
    assert line.startswith("9/bad.png is not an image")


def test_verify_where_no_image_can_be_read(tmp_path):
    source = write_folder(tmp_path / "in", {"a.png": b"", "b.png": b""})
    assert len(refused(f"{source}: 2 bad images among 2", source)) == 2


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({}, "no image files found"),
        ({"../a.png": b""}, "'../a.png' has a path"),
        ({"a.png": b"", "dataset.json": b"["}, "JSON"),
    ],
)
def test_verify_refuses(tmp_path, files, complaint):
    assert refused(complaint, write_zip(tmp_path / "in.zip", files)) == []


def test_names_cannot_act_on_a_terminal(tmp_path):
    source = write_folder(tmp_path / "in", {**images(1), "9\x1b[1m.png": b""})
    (line,) = refused("1 bad image among 2", source)
    assert line.startswith("'9\\x1b[1m.png' is not an image")
