"""Bytes to images and back. Nothing is decoded before its header has shown a known format and an acceptable size."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import re
import struct
import warnings
from collections.abc import Iterator
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dnnlib.commands import how_to_install
from dnnlib.errors import UserError
from dnnlib.file_content import placeholder
from training.data.archive_base import METADATA_FILE, Archive
from training.data.names import Names, shown, some

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "TGA", "JPEG2000", "AVIF")
"""Formats that are decoded, besides HEIF. Pillow knows more; EPS, for one, would start Ghostscript."""

MAX_IMAGE_PX = 64 << 20
"""Maximum number of pixels of an image that is decoded, unless the caller sets another limit."""

MAX_SCANNED_PX = 1 << 32
"""Maximum number of pixels times scans of a JPEG, progressive or not; they take 1.7 s to decode (docs/benchmarks.md).
Encoders write up to 14 scans, but a file of 600 KB may contain thousands."""

_JPEG_SEGMENT = re.compile(rb"\xff[\xc0-\xcf\xd9-\xdd\xe0-\xef\xfe]")
"""Markers after which libjpeg reads a length, and the end of the picture. It passes over others or gives up at them, so
their lengths must not hide anything."""

_SCAN = b"\xff\xda"
_END_OF_PICTURE = b"\xff\xd9"

_GREY_ALPHA_16_BIT = "LA;16B"
"""What Pillow's reader of PNG calls grey values with transparency of 16 bits, which it decodes to RGBA of 8 bits."""

_TIFF_PHOTOMETRIC = 262
_TIFF_WHITE_IS_ZERO = 0
"""A tag of TIFF 6.0 and one of its values, which scanners and X-ray machines write."""

HEIF_EXTENSIONS = (".heic", ".heif", ".hif")

RAW_EXTENSIONS = (".3fr", ".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw")
"""Raw photographs, which are not decoded."""

HIDDEN = "hidden"
NOT_AN_IMAGE = "not a supported image format"


class BadImageError(ValueError):
    """An image that cannot be used. The text says why, as the rest of a sentence that starts with the file's name."""


def image_names(archive: Archive) -> Names:
    """Return the names of the files whose extension belongs to a format that is decoded, hidden ones aside, sorted.

    StyleGAN2-ADA takes every extension that Pillow knows, and hidden files; see docs/compatibility.md.
    """
    return archive.names.select(_image_indices(archive.names))


def require_images(archive: Archive) -> Names:
    """Return `image_names`.

    Raises:
        UserError: There are none. The text says which files were ignored, and why.
    """
    names = image_names(archive)
    if names:
        return names
    ignored = ignored_files(archive)
    reasons = [f"{len(files)} {reason} ({some(files)})" for reason, files in ignored.items()]
    if any(name.lower().endswith(HEIF_EXTENSIONS) for name in ignored.get(NOT_AN_IMAGE, ())):
        reasons.append(f"HEIC needs {how_to_install('heif')}")
    raise UserError("; ".join([f"{archive.path}: no image files found", *reasons]))


def ignored_files(archive: Archive) -> dict[str, list[str]]:
    """Return the names of all other files, except the ``dataset.json`` that is read, by why they are ignored."""
    names = archive.names
    is_hidden = names.hidden()
    is_other = ~is_hidden
    is_other[_image_indices(names)] = False
    metadata = archive.find_record(METADATA_FILE)
    others = (name for name in names.select(np.flatnonzero(is_other)) if name != metadata)
    ignored = {**archive.ignored, HIDDEN: list(names.select(np.flatnonzero(is_hidden))), NOT_AN_IMAGE: list(others)}
    return {reason: files for reason, files in ignored.items() if files}


def _image_indices(names: Names) -> np.ndarray:
    return np.flatnonzero(names.ending_with(*_extensions()) & ~names.hidden())


def open_image(file: IO[bytes], max_px: int | None = None) -> Image.Image:
    """Read an image's header; the pixels stay undecoded.

    Args:
        file: Seekable; needed until the pixels are decoded.
        max_px: Maximum number of pixels. Default: `MAX_IMAGE_PX`.

    Raises:
        BadImageError: Not one of `FORMATS`, or too many pixels.
    """
    max_px = max_px or MAX_IMAGE_PX
    if fault := placeholder(file.read(512)):
        raise BadImageError(f"is not an image but {fault}")
    file.seek(0)
    with _pillow_limit(max_px), _decoding():
        image = Image.open(file, formats=_formats())
    if image.width * image.height > max_px:
        raise BadImageError(f"has {image.width}x{image.height} pixels, more than {max_px >> 20} Mpx; shrink it")
    return image


def read_image(archive: Archive, name: str, max_px: int | None = None) -> Image.Image:
    """Read a file of ``archive`` and its header; the pixels stay undecoded.

    Raises:
        BadImageError: As `open_image`, or the file cannot be read.
    """
    try:
        return open_image(io.BytesIO(archive.read(name)), max_px)
    except OSError as err:
        raise BadImageError(f"cannot be read: {err.strerror or err}") from err


def load_image(image: Image.Image) -> Image.Image:
    """Decode the pixels (of the first frame) and turn them upright as the EXIF orientation says.

    Returns:
        The same image, or one of mode I;16: for a PGM with more than 8 bits, which Pillow scales to 16 and holds in 32;
        for a 16-bit TIFF whose zeros are white, which Pillow does not invert, with black ones. Or one of mode LA: for a
        PNG of grey values and transparency of 16 bits, which Pillow takes for colors.

    Raises:
        BadImageError: The data is truncated or damaged, a palette is missing, or a JPEG has too many scans.
    """
    with _decoding():
        if image.format in ("JPEG", "MPO"):
            _check_scans(image)
        raw_mode = _png_raw_mode(image)
        image.load()
        _match_transparent_value(image, raw_mode)
        if image.mode == "P" and image.palette is None:
            raise BadImageError("has pixels that are numbers of a palette, but no palette")
        with contextlib.suppress(SyntaxError, ValueError, struct.error):  # damaged notes say nothing about the pixels
            ImageOps.exif_transpose(image, in_place=True)
        if raw_mode == _GREY_ALPHA_16_BIT:
            return image.convert("LA")
        if image.mode == "I;16" and getattr(image, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO:
            return Image.fromarray(np.iinfo(np.uint16).max - np.asarray(image))
        return image.convert("I;16") if (image.format, image.mode) == ("PPM", "I") else image


def encode_uncompressed_png(image: Image.Image) -> bytes:
    """Write an uncompressed PNG, which decodes several times faster than a compressed one, with nothing but pixels."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=0, icc_profile=None)  # or Pillow copies that of the photograph
    return buffer.getvalue()


def _png_raw_mode(image: Image.Image) -> str | None:
    """Return how Pillow names the pixel format of a PNG that is not decoded yet."""
    tiles = getattr(image, "tile", None)
    return tiles[0][3] if image.format == "PNG" and tiles else None


def _match_transparent_value(image: Image.Image, raw_mode: str | None) -> None:
    """Scale the one value or color of a PNG that is transparent as Pillow scales the pixels, which it forgets."""
    value = image.info.get("transparency")
    if raw_mode in ("L;2", "L;4") and isinstance(value, int):
        image.info["transparency"] = value * 255 // ((1 << int(raw_mode[2:])) - 1)
    if raw_mode == "RGB;16B" and isinstance(value, tuple):
        image.info["transparency"] = tuple(each >> 8 for each in value)


def _check_scans(image: Image.Image) -> None:
    file = getattr(image, "fp", None)
    if file is None:  # it has been decoded already
        return
    file.seek(0)
    num_scans = _count_scans(file.read())
    if num_scans * image.width * image.height > MAX_SCANNED_PX:
        raise BadImageError(f"is a JPEG with {num_scans} scans, too many for its size; save it again")


def _count_scans(jpeg: bytes) -> int:
    """Count the scans of the first picture; thumbnails lie inside segments, other pictures and videos after it."""
    num_scans = position = 0
    while (marker := _JPEG_SEGMENT.search(jpeg, position)) and marker[0] != _END_OF_PICTURE:
        num_scans += marker[0] == _SCAN
        length = int.from_bytes(jpeg[marker.end() : marker.end() + 2], "big")
        position = marker.end() + max(length, 2)
    return num_scans


@functools.cache
def _formats() -> tuple[str, ...]:
    """Return `FORMATS`, and HEIF if the optional package for it is installed."""
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return FORMATS
    return (*FORMATS, "HEIF")


@functools.cache
def _extensions() -> tuple[bytes, ...]:
    """Return the extensions of all formats that are decoded, in lower case; the most frequent first."""
    formats = (*_formats(), "MPO")  # JPEGs with more pictures after the first, which the reader of JPEG opens
    others = {extension for extension, format in Image.registered_extensions().items() if format in formats}
    return (b".png", b".jpg", *(extension.encode() for extension in sorted(others)))


@contextlib.contextmanager
def _decoding() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (BadImageError, MemoryError):  # too little memory says nothing about the image
            raise
        except UnidentifiedImageError:
            raise BadImageError(f"is not an image in a known format ({', '.join(_formats())})") from None
        except Image.DecompressionBombError:
            raise BadImageError(f"has more than {(Image.MAX_IMAGE_PIXELS or 0) >> 20} Mpx; shrink it") from None
        except Exception as err:  # broken bytes make Pillow's decoders raise almost anything
            raise BadImageError(f"cannot be decoded: {shown(str(err) or type(err).__name__)}") from err


@contextlib.contextmanager
def _pillow_limit(max_px: int) -> Iterator[None]:
    """Let Pillow refuse images with more than twice as many pixels; its own limit may be below that of the caller."""
    previous, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_px
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = previous
