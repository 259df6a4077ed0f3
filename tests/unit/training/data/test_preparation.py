import io

import numpy as np
import pytest
from PIL import Image

from tests.image_files import LFS_POINTER, encode, png_header, png_of, random_image
from training.data import codec as image_io
from training.data import preparation as preparation_module
from training.data.codec import BadImageError, load_image, open_image
from training.data.preparation import Preparation, Resizing, TooSmallError, crop_or_pad, to_8_bit, value_range


def reload(data):
    return load_image(open_image(io.BytesIO(data)))


def pixels(image):
    return np.asarray(image).astype(int)


def preparation(**changes):
    unchanged = {"mode": "auto", "transform": None, "width_px": None, "height_px": None, "resize_filter": "lanczos"}
    return Preparation(**{**unchanged, **changes})


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_8_bit_images_stay_as_they_are(mode):
    image = to_8_bit(reload(encode(random_image(mode=mode))))
    assert image.mode == mode
    assert np.array_equal(image, random_image(mode=mode))


def test_palette_becomes_rgb():
    image = random_image().quantize(16)
    assert np.array_equal(to_8_bit(reload(encode(image))), image.convert("RGB"))


def test_cmyk_becomes_rgb():
    image = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    red, green, blue = to_8_bit(reload(encode(image, "JPEG"))).getpixel((4, 4))
    assert (red < 5, green > 250, blue > 250) == (True, True, True)


def test_1_bit_becomes_grey():
    image = random_image(mode="L").convert("1")
    assert to_8_bit(reload(encode(image))).mode == "L"
    assert np.array_equal(to_8_bit(reload(encode(image))), pixels(image) * 255)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_the_high_byte(format):
    values = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    image = to_8_bit(reload(encode(Image.fromarray(values), format)))
    assert (image.mode, pixels(image).tolist()) == ("L", [[0, 0, 1, 128, 255]])


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize(("bits", "expected"), [(15, [0, 1, 2, 31]), (12, [1, 15, 16, 255])])
def test_16_bit_grey_that_uses_fewer_bits(format, bits, expected):
    image = reload(encode(Image.fromarray(np.array([[16, 255, 256, 4095]], dtype=np.uint16)), format))
    assert pixels(to_8_bit(image, bits)).tolist() == [expected]
    with pytest.raises(BadImageError, match="has values up to 4095, but --bits=11 allows 2047 at most"):
        to_8_bit(image, 11)


@pytest.mark.parametrize(
    ("header", "values", "expected"),
    [
        (b"P5 4 1 65535\n", [0, 255, 256, 65535], [0, 0, 1, 255]),
        (b"P5 4 1 4095\n", [0, 15, 2048, 4095], [0, 0, 128, 255]),
        (b"P2 4 1 4095\n", [0, 15, 2048, 4095], [0, 0, 128, 255]),
    ],
)
def test_pgm_of_more_than_8_bits(header, values, expected):
    if header.startswith(b"P5"):
        data = np.array(values, dtype=">u2").tobytes()
    else:
        data = " ".join(map(str, values)).encode()
    image = reload(header + data)
    assert image.mode == "I;16"
    assert value_range(image) == (0, 65535)
    assert pixels(to_8_bit(image)).tolist() == [expected]


def test_bits_do_not_concern_8_bit_images():
    assert np.array_equal(preparation(bits=8)(random_image()), random_image())


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_parts_become_white(mode):
    image = random_image(mode=mode)
    flat = to_8_bit(reload(encode(image)))
    assert flat.mode == {"RGBA": "RGB", "LA": "L"}[mode]
    *color, alpha = np.moveaxis(pixels(image), 2, 0)
    expected = np.stack([(each * alpha + 255 * (255 - alpha)) / 255 for each in color], axis=2).squeeze()
    assert np.abs(pixels(flat) - expected).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_transparent_color_becomes_white(mode):
    image = Image.new(mode, (2, 1), 0)
    image.putpixel((1, 0), {"RGB": (9, 9, 9), "L": 9, "P": 1}[mode])
    if mode == "P":
        image.putpalette([0, 0, 0, 9, 9, 9])
    data = encode(image, transparency={"RGB": (0, 0, 0), "L": 0, "P": 0}[mode])
    assert to_8_bit(reload(data)).convert("L").tobytes() == bytes([255, 9])


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_transparent_value_of_a_grey_png_becomes_white(bits):
    """Against the definition in the PNG specification, since Pillow keeps the value as it is in the file."""
    largest = (1 << bits) - 1
    values = np.array([0, 1, largest // 2, largest])
    for transparent in values.tolist():
        image = to_8_bit(reload(png_of(values[:, None], bits, color_type=0, transparent=[transparent])))
        scaled = values >> 8 if bits == 16 else values * 255 // largest
        assert image.mode == "L"
        assert pixels(image).ravel().tolist() == np.where(values == transparent, 255, scaled).tolist()


@pytest.mark.parametrize("bits", [8, 16])
def test_grey_with_transparency_stays_grey(bits):
    largest = (1 << bits) - 1
    values = np.array([[0, largest], [largest // 4, largest // 2], [largest, 0], [largest // 4, largest], [1, 0]])
    image = to_8_bit(reload(png_of(values, bits, color_type=4)))
    grey, alpha = (values / largest).T
    assert image.mode == "L"
    np.testing.assert_allclose(pixels(image)[0], 255 * (grey * alpha + 1 - alpha), rtol=0, atol=1)


@pytest.mark.parametrize("bits", [8, 16])
def test_transparent_color_of_a_png_becomes_white(bits):
    colors = np.array([[0, 0, 0], [1, 0, 0], [0.25, 0.25, 0.25], [1, 1, 1]]) * ((1 << bits) - 1)
    for transparent in colors.astype(int):
        image = to_8_bit(reload(png_of(colors.astype(int), bits, color_type=2, transparent=transparent)))
        is_transparent = (colors.astype(int) == transparent).all(1, keepdims=True)
        assert pixels(image)[0].tolist() == np.where(is_transparent, 255, colors.astype(int) >> (bits - 8)).tolist()


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_images_are_refused(mode):
    with pytest.raises(BadImageError, match="32-bit pixels of unknown range"):
        to_8_bit(reload(encode(Image.new(mode, (8, 8)), "TIFF")))


@pytest.mark.parametrize(("mode", "expected"), [("rgb", "RGB"), ("grey", "L")])
@pytest.mark.parametrize("given", ["RGB", "L"])
def test_one_mode_for_all(mode, expected, given):
    assert preparation(mode=mode)(random_image(mode=given)).mode == expected


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation):
    turned = {
        2: "FLIP_LEFT_RIGHT",
        3: "ROTATE_180",
        4: "FLIP_TOP_BOTTOM",
        5: "TRANSPOSE",
        6: "ROTATE_90",
        7: "TRANSVERSE",
        8: "ROTATE_270",
    }
    upright = random_image(size=(6, 4))
    stored = upright.transpose(Image.Transpose[turned[orientation]]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(reload(encode(stored, exif=exif)), upright)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG"])
def test_damaged_exif_data_is_no_obstacle(format):
    image = Image.new("RGB", (16, 8), "red")
    assert reload(encode(image, format, exif=b"Exif\0\0damaged")).size == (16, 8)


def test_first_frame_of_an_animation():
    frames = [random_image(seed, mode="L") for seed in range(3)]
    image = reload(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert np.array_equal(to_8_bit(image).convert("L"), frames[0])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is not an image but an empty file"),
        (LFS_POINTER, "is not an image but a Git LFS pointer, whose file comes by git lfs pull"),
        (b"<!doctype html>", "is not an image but a web page"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "is not an image in a known format"),
        (png_header(10_000, 9_000), "has 10000x9000 pixels, more than 64 Mpx"),
        (png_header(100_000, 100_000), "has more than 64 Mpx"),
    ],
)
def test_refused_by_their_header(data, reason):
    with pytest.raises(BadImageError, match=reason):
        open_image(io.BytesIO(data))


def test_pixel_limit(monkeypatch):
    monkeypatch.setattr(image_io, "MAX_IMAGE_PX", 63)
    with pytest.raises(BadImageError, match="8x8 pixels"):
        open_image(io.BytesIO(encode(random_image())))


def test_no_options_change_nothing():
    assert np.array_equal(preparation()(random_image()), random_image())


def test_stretches():
    assert preparation(width_px=4)(random_image()).size == (4, 8)
    assert preparation(width_px=4, height_px=4)(random_image(size=(9, 5))).size == (4, 4)


def test_box_filter_averages():
    small = preparation(width_px=4, height_px=4, resize_filter="box")(random_image())
    assert np.abs(pixels(small) - pixels(random_image()).reshape(4, 2, 4, 2, 3).mean(axis=(1, 3))).max() <= 1


def test_lanczos_is_another_filter():
    small = preparation(width_px=4, height_px=4)(random_image())
    assert np.array_equal(small, random_image().resize((4, 4), Image.Resampling.LANCZOS))


@pytest.mark.parametrize(("size", "box"), [((11, 8), (1, 0, 9, 8)), ((8, 11), (0, 1, 8, 9)), ((8, 8), (0, 0, 8, 8))])
def test_center_crop_takes_the_middle_square(size, box):
    image = random_image(size=size)
    assert np.array_equal(preparation(transform="center-crop", width_px=8, height_px=8)(image), image.crop(box))
    assert preparation(transform="center-crop", width_px=4, height_px=4)(image).size == (4, 4)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_center_crop_wide_adds_bands(mode):
    image = random_image(size=(16, 16), mode=mode)
    wide = preparation(transform="center-crop-wide", width_px=16, height_px=12)(image)
    assert wide.size == (16, 16)
    assert np.array_equal(pixels(wide)[2:14], pixels(image)[2:14])
    assert not pixels(wide)[:2].any()
    assert not pixels(wide)[14:].any()


@pytest.mark.parametrize(("size", "box"), [((40, 24), (4, 0, 36, 24)), ((32, 30), (0, 3, 32, 27))])
def test_center_crop_wide_cuts_to_the_aspect(size, box):
    image = random_image(size=size)
    wide = preparation(transform="center-crop-wide", width_px=16, height_px=12)(image)
    assert np.array_equal(pixels(wide)[2:14], image.crop(box).resize((16, 12), Image.Resampling.LANCZOS))


@pytest.mark.parametrize("size", [(15, 30), (30, 11)])
def test_center_crop_wide_refuses_to_enlarge(size):
    with pytest.raises(TooSmallError, match=f"is {size[0]}x{size[1]}, smaller than 16x12"):
        preparation(transform="center-crop-wide", width_px=16, height_px=12)(random_image(size=size))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(("size", "place"), [((8, 4), (0, 2)), ((4, 8), (2, 0)), ((8, 5), (0, 1)), ((5, 8), (1, 0))])
def test_pad_keeps_the_whole_image(mode, size, place):
    image = random_image(size=size, mode=mode)
    square = Image.new(mode, (8, 8), "black")
    square.paste(image, place)
    assert np.array_equal(preparation(transform="pad", width_px=8, height_px=8)(image), square)
    small = preparation(transform="pad", width_px=4, height_px=4)(image)
    assert np.array_equal(small, square.resize((4, 4), Image.Resampling.LANCZOS))


def test_pad_accepts_small_images():
    assert preparation(transform="pad", width_px=16, height_px=16)(random_image(size=(3, 2))).size == (16, 16)


@pytest.mark.parametrize("size", [(9, 6), (6, 9), (8, 8), (4, 11), (3, 2)])
def test_crop_or_pad(size):
    """The middle stays where it is, up to half a pixel to the left and top."""
    image = random_image(size=(8, 8), mode="L")
    result = pixels(crop_or_pad(image, size))
    assert result.shape == size[::-1]
    offsets = [(new - 8) // 2 if new > 8 else -((8 - new) // 2) for new in size]
    for y, x in np.ndindex(result.shape):
        u, v = x - offsets[0], y - offsets[1]
        assert result[y, x] == (image.getpixel((u, v)) if 0 <= u < 8 and 0 <= v < 8 else 0)


@pytest.mark.parametrize(
    ("options", "size", "expected"),
    [
        ({}, (9, 5), ((9, 5), (9, 5))),
        ({"width_px": 4}, (9, 5), ((9, 5), (4, 5))),
        ({"width_px": 8, "height_px": 8}, (9, 5), ((9, 5), (8, 8))),
        ({"width_px": 8, "height_px": 8, "transform": "center-crop"}, (9, 5), ((5, 5), (8, 8))),
        ({"width_px": 8, "height_px": 8, "transform": "pad"}, (9, 5), ((9, 9), (8, 8))),
        ({"width_px": 8, "height_px": 4, "transform": "center-crop-wide"}, (11, 5), ((10, 5), (8, 4))),
        ({"width_px": 8, "height_px": 4, "transform": "center-crop-wide"}, (9, 9), ((9, 4), (8, 4))),
    ],
)
def test_sizes_before_and_after_resizing(options, size, expected):
    assert preparation(**options).resizing(size) == expected


@pytest.mark.parametrize(
    ("before", "after", "enlargement", "stretch"),
    [
        ((40, 30), (1024, 1024), 1024 / 30, 4 / 3),
        ((30, 40), (1024, 1024), 1024 / 30, 4 / 3),
        ((2048, 1024), (1024, 1024), 1, 2),
        ((8, 7), (1024, 1024), 1024 / 7, 8 / 7),
        ((33, 32), (32, 32), 1, 33 / 32),
        ((64, 64), (32, 32), 0.5, 1),
        ((32, 32), (32, 32), 1, 1),
        ((17, 13), (16, 12), 12 / 13, 1),  # the nearest whole pixels to the aspect
        ((10, 5), (8, 4), 0.8, 1),
    ],
)
def test_enlargement_and_stretch(before, after, enlargement, stretch):
    resizing = Resizing(before, after)
    assert resizing.is_needed == (before != after)
    assert resizing.enlargement == pytest.approx(max(enlargement, after[0] / before[0]))
    assert resizing.stretch == pytest.approx(stretch)


@pytest.mark.parametrize("size", [(x, y) for x in range(16, 40, 5) for y in range(12, 40, 5)])
def test_crops_are_not_counted_as_stretched(size):
    assert preparation(transform="center-crop-wide", width_px=16, height_px=12).resizing(size).stretch == 1


def test_value_range():
    assert value_range(Image.fromarray(np.array([[3, 70], [9, 5]], dtype=np.uint8))) == (3, 70)
    assert value_range(Image.fromarray(np.array([[300, 65535]], dtype=np.uint16))) == (300, 65535)
    assert value_range(Image.merge("RGB", [Image.new("L", (2, 2), value) for value in (7, 1, 5)])) == (1, 7)


def test_a_panorama_is_padded_without_its_square(monkeypatch):
    """The square of a panorama may have billions of pixels."""
    prepare = Preparation(mode="rgb", transform="pad", width_px=16, height_px=16, resize_filter="box")
    image = random_image(size=(64, 32))
    expected = np.asarray(prepare(image))
    monkeypatch.setattr(preparation_module, "MAX_PADDED_PX", 64 * 32)
    assert np.array_equal(prepare(image), expected)
    assert prepare(Image.new("RGB", (1, 10_000_000))).size == (16, 16)
