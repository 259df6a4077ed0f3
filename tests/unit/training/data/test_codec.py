import io
import sys
import types

import numpy as np
import pytest
from PIL import Image

from dnnlib.errors import UserError
from tests.image_files import (
    encode,
    png_header,
    png_without_palette,
    progressive_jpeg,
    random_image,
    sequential_jpeg,
    tiff_of_zeros_that_are_white,
    write_folder,
    write_zip,
)
from training.data import codec
from training.data.archive import open_archive
from training.data.codec import (
    BadImageError,
    encode_uncompressed_png,
    ignored_files,
    image_names,
    load_image,
    open_image,
    read_image,
    require_images,
)
from training.data.preparation import to_8_bit


@pytest.fixture(params=[write_folder, write_zip], ids=["folder", "zip"])
def archive_of(request, tmp_path):
    suffix = ".zip" if request.param is write_zip else ""
    return lambda *names: open_archive(request.param(tmp_path / f"set{suffix}", dict.fromkeys(names, b"")))


@pytest.fixture
def set_heif_package(monkeypatch):
    """Replace the optional package, or pretend that it is missing."""

    def set_package(package):
        monkeypatch.setitem(sys.modules, "pillow_heif", package)
        codec._formats.cache_clear()
        codec._extensions.cache_clear()

    yield set_package
    monkeypatch.undo()
    codec._formats.cache_clear()
    codec._extensions.cache_clear()


def test_images_are_found_by_extension(archive_of):
    names = ["a.PNG", "b.jpeg", "c/d.webp", "c/e.tif", "f.avif", "g.mpo", "h.jp2", "i.gif"]
    archive = archive_of(*names, "png", "j.txt", "k.png.txt", "dataset.json")
    assert image_names(archive) == names


@pytest.mark.parametrize("extension", ["pdf", "psd", "mpg", "eps", "ps", "wmf", "emf", "h5", "fits", "ico", "icns"])
def test_formats_that_are_not_decoded_are_no_images(archive_of, extension):
    archive = archive_of("a.png", f"b.{extension}", f"c.{extension.upper()}")
    assert image_names(archive) == ["a.png"]
    assert ignored_files(archive) == {"not a supported image format": [f"b.{extension}", f"c.{extension.upper()}"]}


def test_hidden_files_are_no_images(archive_of):
    hidden = [".DS_Store", "._a.png", ".ipynb_checkpoints/a.png", "@eaDir/a.png", "__MACOSX/a.png", "cat/._b.png"]
    archive = archive_of("a.png", "cat/b.png", "dataset.json", *hidden)
    assert image_names(archive) == ["a.png", "cat/b.png"]
    assert ignored_files(archive) == {"hidden": hidden}


def test_nothing_is_ignored(archive_of):
    assert ignored_files(archive_of("a.png", "dataset.json")) == {}


def test_links_are_among_the_ignored(tmp_path):
    folder = write_folder(tmp_path / "set", {"a.png": b""})
    (folder / "gone.png").symlink_to("nowhere")
    assert ignored_files(open_archive(folder)) == {"broken link": ["gone.png"]}


def test_what_was_found_instead_of_images(archive_of, set_heif_package):
    set_heif_package(None)
    with pytest.raises(UserError) as caught:
        require_images(archive_of("a.HEIC", "\x1b[2J.txt", ".b.png"))
    message = str(caught.value)
    assert "no image files found; 1 hidden (.b.png); 2 not a supported image format ('\\x1b[2J.txt', a.HEIC)" in message
    assert message.endswith("HEIC needs pip install '.[heif]'")


def test_no_file_at_all(archive_of):
    with pytest.raises(UserError, match=r"no image files found$"):
        require_images(archive_of("dataset.json"))


def test_without_the_package_heif_is_ignored(archive_of, set_heif_package):
    set_heif_package(None)
    archive = archive_of("a.heic", "b.png")
    assert image_names(archive) == ["b.png"]
    assert ignored_files(archive) == {"not a supported image format": ["a.heic"]}


def test_with_the_package_heif_is_decoded(archive_of, set_heif_package, monkeypatch):
    class HeifFile(Image.Image):
        format = "HEIF"

    def register_heif_opener():
        Image.init()
        monkeypatch.setitem(Image.EXTENSION, ".heic", "HEIF")
        monkeypatch.setattr(Image, "ID", [*Image.ID, "HEIF"])
        opener = (lambda file, _name: Image.new("RGB", (3, 5)), lambda prefix: prefix.startswith(b"heif"))
        monkeypatch.setitem(Image.OPEN, "HEIF", opener)

    set_heif_package(types.SimpleNamespace(register_heif_opener=register_heif_opener))
    assert image_names(archive_of("a.heic", "b.png")) == ["a.heic", "b.png"]
    assert open_image(io.BytesIO(b"heif")).size == (3, 5)


def test_the_caller_sets_the_limit():
    data = encode(random_image(size=(9, 7)))
    assert open_image(io.BytesIO(data), max_px=63).size == (9, 7)
    with pytest.raises(BadImageError, match="has 9x7 pixels, more than 0 Mpx"):
        open_image(io.BytesIO(data), max_px=62)


def test_limits_beyond_that_of_pillow():
    limit_px = Image.MAX_IMAGE_PIXELS
    assert open_image(io.BytesIO(png_header(15_000, 15_000)), max_px=256 << 20).size == (15_000, 15_000)
    assert limit_px == Image.MAX_IMAGE_PIXELS


def test_progressive_jpegs_of_usual_scans_are_decoded():
    image = random_image(size=(64, 64))
    loaded = load_image(open_image(io.BytesIO(encode(image, "JPEG", progressive=True, quality=95))))
    assert np.array_equal(loaded, Image.open(io.BytesIO(encode(image, "JPEG", quality=95))))


@pytest.mark.parametrize("num_scans", [4, 5])
@pytest.mark.parametrize("jpeg", [progressive_jpeg, sequential_jpeg])
def test_work_of_a_jpeg_is_limited(monkeypatch, jpeg, num_scans):
    monkeypatch.setattr(codec, "MAX_SCANNED_PX", 4 * 1024**2)
    image = open_image(io.BytesIO(jpeg(1024, num_scans)))
    if num_scans == 4:
        assert load_image(image).size == (1024, 1024)
        return
    monkeypatch.setattr(Image.Image, "load", None)
    with pytest.raises(BadImageError, match="is a JPEG with 5 scans, too many for its size"):
        load_image(image)


def test_the_limit_is_far_from_what_encoders_write():
    assert codec.MAX_SCANNED_PX >= 14 * codec.MAX_IMAGE_PX
    assert codec.MAX_SCANNED_PX <= 64 * codec.MAX_IMAGE_PX


def test_scans_of_other_pictures_do_not_count(monkeypatch):
    """Phones append videos to photographs; thumbnails lie within segments."""
    monkeypatch.setattr(codec, "MAX_SCANNED_PX", 4 * 1024**2)
    data = progressive_jpeg(1024, 4)
    thumbnail = b"\xff\xe1" + (6002).to_bytes(2, "big") + b"\xff\xda" * 3000
    photograph = data[:2] + thumbnail + data[2:] + b"video" + b"\xff\xda" * 1000
    assert load_image(open_image(io.BytesIO(photograph))).size == (1024, 1024)


@pytest.mark.parametrize("marker", [b"\xff\x02", b"\xff\xd0", b"\xff\x01", b"\xff\xff\x00", b"\xff\xe0\0\0"])
def test_no_marker_hides_scans(monkeypatch, marker):
    """libjpeg reads no length behind these, or none that would skip anything."""
    monkeypatch.setattr(codec, "MAX_SCANNED_PX", 4 * 1024**2)
    data = progressive_jpeg(1024, 5)
    second_scan = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    with pytest.raises(BadImageError, match="is a JPEG with 5 scans"):
        load_image(open_image(io.BytesIO(data[:second_scan] + marker + b"\xff\xff" + data[second_scan:])))


@pytest.mark.parametrize("end", [b"", b"\xff", b"\xff\xda", b"\xff\xda\xff", b"\xff" * 100])
def test_scans_of_a_cut_jpeg_are_counted(end):
    assert codec._count_scans(progressive_jpeg(1024, 3)[:-2] + end) == 3 + (b"\xda" in end)


def test_files_that_cannot_be_read(tmp_path):
    archive = open_archive(write_folder(tmp_path / "set", {"a.png": b""}))
    (tmp_path / "set/a.png").unlink()
    with pytest.raises(BadImageError, match="cannot be read: No such file"):
        read_image(archive, "a.png")


def test_errors_of_decoders_are_one_harmless_line(monkeypatch):
    def load(_image):
        raise SyntaxError("\x1b[2J\n" + "x" * 1000)

    monkeypatch.setattr(Image.Image, "load", load)
    with pytest.raises(BadImageError) as caught:
        load_image(Image.new("RGB", (1, 1)))
    message = str(caught.value)
    assert message.startswith("cannot be decoded: '\\x1b[2J\\n")
    assert len(message) < 130
    assert message.isprintable()


def test_too_little_memory_is_no_fault_of_the_image(monkeypatch):
    def load(_image):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", load)
    with pytest.raises(MemoryError):
        load_image(Image.new("RGB", (1, 1)))


def test_a_palette_that_is_missing():
    with pytest.raises(BadImageError, match="numbers of a palette, but no palette"):
        load_image(open_image(io.BytesIO(png_without_palette(8))))


def test_16_bit_tiff_whose_zeros_are_white():
    image = load_image(open_image(io.BytesIO(tiff_of_zeros_that_are_white([[0, 1, 256], [4096, 65535, 2]]))))
    assert image.mode == "I;16"
    assert np.asarray(image).tolist() == [[65535, 65534, 65279], [61439, 0, 65533]]


def test_png_is_uncompressed():
    image = random_image(size=(64, 64))
    data = encode_uncompressed_png(image)
    assert len(data) > 64 * 64 * 3
    assert np.array_equal(Image.open(io.BytesIO(data)), image)


@pytest.mark.parametrize(("format", "mode"), [("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("WEBP", "RGB")])
def test_png_holds_nothing_but_pixels(format, mode):
    exif = Image.Exif()
    exif[0x010E] = "a description"
    options = {"icc_profile": b"profile" * 1000, "exif": exif, "dpi": (300, 300), "comment": "text"}
    image = to_8_bit(load_image(open_image(io.BytesIO(encode(random_image(mode=mode), format, **options)))))
    data = encode_uncompressed_png(image)
    assert [kind for kind in (b"iCCP", b"eXIf", b"tEXt", b"pHYs", b"gAMA") if kind in data] == []
    assert len(data) < 400
