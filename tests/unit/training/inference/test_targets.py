import numpy as np
import pytest
from PIL import Image

from dnnlib.errors import UserError
from tests.image_files import random_image
from training.inference import targets
from training.inference.crop import Crop, parse_crop
from training.inference.targets import (
    is_collection,
    read_targets,
)


@pytest.fixture
def photo(tmp_path):
    image = random_image(size=(40, 24))
    image.save(tmp_path / "photo.png")
    return tmp_path / "photo.png", image


@pytest.mark.parametrize(
    ("text", "box", "square"),
    [("center", (8, 0, 32, 24), (8, 0, 24)), ("3,5,16", (3, 5, 19, 21), (3, 5, 16)), ("pad", None, (0, -8, 40))],
)
def test_the_stated_square_is_taken(photo, text, box, square):
    path, image = photo
    crop = parse_crop(text)
    assert str(crop) == text
    [target], _problems = read_targets(path, crop, 16, 3)
    if box is None:
        whole = Image.new("RGB", (40, 40))
        whole.paste(image, (0, 8))
    else:
        whole = image.crop(box)
    expected = np.asarray(whole.convert("RGB").resize((16, 16), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(target.pixels, expected)
    assert (target.file, target.square) == (str(path), square)


@pytest.mark.parametrize(("highest", "is_refused"), [(4095, True), (4096, False)])
def test_16_bit_targets_of_few_bits_are_refused(tmp_path, highest, is_refused):
    Image.fromarray(np.full([4, 4], highest, np.uint16)).save(tmp_path / "scan.png")
    if is_refused:
        with pytest.raises(UserError, match=r"scan\.png has 16-bit values up to 4095 only, out of 65535"):
            read_targets(tmp_path / "scan.png", Crop("center"), 4, 1)
    else:
        [target], _problems = read_targets(tmp_path / "scan.png", Crop("center"), 4, 1)
        assert (target.pixels == 16).all()


@pytest.mark.parametrize("text", ["", "middle", "1,2", "1,2,0", "-1,2,3", "1,2,3,4", "1,2,9999999", "\u0661,2,3"])
def test_other_crops_are_refused(text):
    assert parse_crop(text) is None


def test_a_square_outside_of_the_image_is_refused(photo):
    for crop in (Crop("box", (25, 0, 16)), Crop("box", (0, 9, 16))):
        with pytest.raises(UserError, match=f"has 40x24 pixels: the square --crop={crop} is not inside it"):
            read_targets(photo[0], crop, 16, 3)


def test_a_folder_is_read_in_the_order_of_names(tmp_path, monkeypatch):
    folder = tmp_path / "photos"
    folder.mkdir()
    for value, name in enumerate(("b.png", "a.jpg", "c.png")):
        Image.new("RGB", (20, 10), (50 * value,) * 3).save(folder / name)
    (folder / "notes.txt").write_text("text")
    found, problems = read_targets(folder, Crop("center"), 8, 1)
    assert problems == []
    assert [target.file for target in found] == ["a.jpg", "b.png", "c.png"]
    assert [int(target.pixels[0, 0, 0]) for target in found] == [50, 0, 100]
    assert found[0].pixels.shape == (8, 8, 1)
    monkeypatch.setattr(targets, "MAX_TARGETS", 2)
    with pytest.raises(UserError, match="holds 3 images, more than 2 at once"):
        read_targets(folder, Crop("center"), 8, 1)


def test_images_of_a_folder_that_cannot_be_used_are_named(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    crop = Crop("box", (0, 0, 16))
    with pytest.raises(UserError, match=r"^a\.png "):
        read_targets(folder, crop, 8, 3)
    for side, name in ((16, "b.png"), (8, "c.png")):
        random_image(size=(side, side)).save(folder / name)
    found, problems = read_targets(folder, crop, 8, 3)
    assert [target.file for target in found] == ["b.png"]
    assert [problem.split()[0] for problem in problems] == ["a.png", "c.png"]


def test_folders_and_zips_are_collections(tmp_path):
    assert is_collection(tmp_path)
    assert is_collection(tmp_path / "photos.ZIP")
    assert not is_collection(tmp_path / "photo.png")


def test_networks_of_other_channels_are_refused(photo):
    with pytest.raises(UserError, match="1 or 3 color channels, this one has 4"):
        read_targets(photo[0], Crop("center"), 8, 4)
