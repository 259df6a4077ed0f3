"""Bytes to images and back. Nothing is decoded before its header has shown a known format and a sane size."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import IO

from PIL import Image, ImageOps, UnidentifiedImageError

from training.data.archive import Archive

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "TGA", "JPEG2000", "AVIF")
"""What is decoded. Pillow knows more; EPS, for one, would start Ghostscript."""

MAX_IMAGE_PX = 64 << 20
"""Most pixels of an image that is decoded; below the count where Pillow begins to warn."""


class BadImageError(ValueError):
    """An image that cannot be used. The text says why, as the rest of a sentence that starts with the file's name."""


def image_names(archive: Archive) -> list[str]:
    """Names of the files whose extension Pillow knows, sorted (CONTRACT 5)."""
    Image.init()
    return [name for name in archive.names if _extension(name) in Image.EXTENSION]


def open_image(file: IO[bytes]) -> Image.Image:
    """Read an image's header; the pixels stay undecoded.

    Raises:
        BadImageError: Not one of `FORMATS`, or more than `MAX_IMAGE_PX` pixels.
    """
    with _decoding():
        image = Image.open(file, formats=FORMATS)
    if image.width * image.height > MAX_IMAGE_PX:
        raise BadImageError(f"has {image.width}x{image.height} pixels, more than {MAX_IMAGE_PX >> 20} Mpx; shrink it")
    return image


def read_image(archive: Archive, name: str) -> Image.Image:
    """Read a file of ``archive`` and its header; the pixels stay undecoded.

    Raises:
        BadImageError: As `open_image`, or the file cannot be read.
    """
    try:
        return open_image(io.BytesIO(archive.read(name)))
    except OSError as err:
        raise BadImageError(f"cannot be read: {err.strerror or err}") from err


def load_image(image: Image.Image) -> Image.Image:
    """Decode the pixels (of the first frame) and turn them upright as the EXIF orientation says.

    Raises:
        BadImageError: The data is truncated or damaged.
    """
    with _decoding():
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
    return image


def encode_png(image: Image.Image) -> bytes:
    """Write an uncompressed PNG, which decodes several times faster than a compressed one."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=0)
    return buffer.getvalue()


@contextlib.contextmanager
def _decoding() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except UnidentifiedImageError:
            raise BadImageError(f"is not an image in a known format ({', '.join(FORMATS)})") from None
        except Image.DecompressionBombError:
            raise BadImageError(f"has more than {MAX_IMAGE_PX >> 20} Mpx; shrink it") from None
        except Exception as err:  # broken bytes make Pillow's decoders raise almost anything
            raise BadImageError(f"cannot be decoded: {err or type(err).__name__}") from err


def _extension(name: str) -> str:
    stem, dot, extension = name.rpartition("/")[2].rpartition(".")
    return dot + extension.lower() if stem else ""
