"""Conversion of photographs to what training takes: 8-bit RGB or grey pixels at the chosen size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from dnnlib.errors import UserError
from training.data.codec import BadImageError
from training.data.layout import MIN_RESOLUTION_PX, is_resolution

RESIZE_FILTERS = {"box": Image.Resampling.BOX, "lanczos": Image.Resampling.LANCZOS}

MODES = {"rgb": "RGB", "grey": "L"}

TRANSFORMS = ("center-crop", "center-crop-wide", "pad")

MAX_BITS = 16

MAX_PADDED_PX = 64 << 20
"""Largest image with bands, before it is resized."""

Size = tuple[int, int]
"""(width, height) in pixels."""


class TooSmallError(BadImageError):
    """An image smaller than the part to be cropped from it."""


class Resizing(NamedTuple):
    """Sizes of an image after cropping or padding, before and after it is resized."""

    before: Size
    after: Size

    @property
    def is_needed(self) -> bool:
        """Whether the sizes differ."""
        return self.before != self.after

    @property
    def enlargement(self) -> float:
        """Scale factor in the direction that is enlarged most; up to 1 if the image is not enlarged."""
        return max(self.after[0] / self.before[0], self.after[1] / self.before[1])

    @property
    def stretch(self) -> float:
        """Ratio of the larger to the smaller scale factor; 1 if they differ by the rounding of a crop at most."""
        (width, height), (new_width, new_height) = self.before, self.after
        if 2 * abs(width * new_height - height * new_width) <= max(new_width, new_height):
            return 1.0
        ratio = (width * new_height) / (height * new_width)
        return max(ratio, 1 / ratio)


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Conversion applied to every image.

    Attributes:
        mode: ``'rgb'`` or ``'grey'`` converts all images; ``'auto'`` leaves grey images grey.
        transform: None stretches to width x height, either of which defaults to that of the image. ``'center-crop'``
            resizes the middle square. ``'center-crop-wide'`` crops the middle to the aspect width:height, resizes it,
            and adds black bands above and below to make a square of the width. ``'pad'`` adds black bands to the
            whole image to make a square, then resizes it.
        width_px: Width of the result.
        height_px: Height of the result, before the bands of ``'center-crop-wide'``.
        resize_filter: A key of `RESIZE_FILTERS`.
        bits: Number of bits that 16-bit grey images use, 8 to 16; the upper 8 of them are kept.

    Raises:
        UserError: A size that cannot be trained on, or that the transform cannot produce.
    """

    mode: str
    transform: str | None
    width_px: int | None
    height_px: int | None
    resize_filter: str
    bits: int = MAX_BITS

    def __post_init__(self) -> None:
        width_px, height_px = self.width_px, self.height_px
        if width_px is None or height_px is None:
            if self.transform is not None:
                raise UserError(f"--transform={self.transform} needs --width and --height")
        elif height_px > width_px or (height_px < width_px and self.transform != "center-crop-wide"):
            raise UserError(f"--width={width_px} --height={height_px}: training needs squares")
        side_px = width_px or height_px
        if side_px is not None and not is_resolution(side_px):
            raise UserError(
                f"--width and --height must be a power of two from {MIN_RESOLUTION_PX} pixels, not {side_px}"
            )

    def __call__(self, image: Image.Image) -> Image.Image:
        """Convert a decoded image.

        Raises:
            BadImageError: Pixels without an 8-bit equivalent.
            TooSmallError: Only with ``'center-crop-wide'``.
        """
        image = to_8_bit(image, self.bits)
        if self.mode != "auto" and image.mode != MODES[self.mode]:
            image = image.convert(MODES[self.mode])
        resizing = self.resizing(image.size)
        if self.transform == "pad" and math.prod(resizing.before) > MAX_PADDED_PX:
            return self._resized_and_padded(image, resizing)
        image = crop_or_pad(image, resizing.before)
        if resizing.is_needed:
            image = image.resize(resizing.after, RESIZE_FILTERS[self.resize_filter])
        return crop_or_pad(image, (image.width, image.width)) if self.transform == "center-crop-wide" else image

    def _resized_and_padded(self, image: Image.Image, resizing: Resizing) -> Image.Image:
        """Resize before the bands are added, which would make a panorama thousands of times larger."""
        scales = [new / old for old, new in zip(resizing.before, resizing.after, strict=True)]
        width, height = (max(round(side * scale), 1) for side, scale in zip(image.size, scales, strict=True))
        return crop_or_pad(image.resize((width, height), RESIZE_FILTERS[self.resize_filter]), resizing.after)

    def resizing(self, size: Size) -> Resizing:
        """Return how an image of some size is resized.

        Raises:
            TooSmallError: Only with ``'center-crop-wide'``.
        """
        after = (self.width_px or size[0], self.height_px or size[1])
        if self.transform == "center-crop-wide":
            return Resizing(largest_crop(size, after), after)
        if self.transform == "center-crop":
            return Resizing((min(size), min(size)), after)
        if self.transform == "pad":
            return Resizing((max(size), max(size)), after)
        return Resizing(size, after)


def to_8_bit(image: Image.Image, bits: int = MAX_BITS) -> Image.Image:
    """Convert to mode L if the image is grey, else to RGB; transparent parts become white.

    The upper 8 of the ``bits`` that 16-bit grey values use are kept. For 16-bit RGB, Pillow itself keeps the upper
    8. Color profiles are ignored.

    Raises:
        BadImageError: 32-bit integer or floating-point pixels, whose range is unknown, or values of more than ``bits``.
    """
    if image.mode.startswith("I;16"):
        return _upper_8_bits(np.asarray(image), bits, image.info.get("transparency"))
    if image.mode in ("I", "F"):
        raise BadImageError("has 32-bit pixels of unknown range; save it with 8 or 16 bits")
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    try:
        return image if image.mode == mode else image.convert(mode)
    except ValueError as err:
        raise BadImageError(f"has pixels in mode {image.mode}, which cannot be converted") from err


def _upper_8_bits(values: np.ndarray, bits: int, transparent: int | None) -> Image.Image:
    highest = int(values.max())
    if highest >> bits:
        raise BadImageError(f"has values up to {highest}, but --bits={bits} allows {(1 << bits) - 1} at most")
    pixels = (values >> (bits - 8)).astype(np.uint8)
    if transparent is not None:
        pixels[values == transparent] = np.iinfo(np.uint8).max
    return Image.fromarray(pixels)


def value_range(image: Image.Image) -> tuple[int, int]:
    """Return the lowest and highest value of any pixel and channel of an 8-bit or 16-bit image."""
    values = np.asarray(image)
    return int(values.min()), int(values.max())


def crop_or_pad(image: Image.Image, size: Size) -> Image.Image:
    """Crop to the middle or pad with black all around; an odd pixel is removed or added at the right and bottom."""
    if size == image.size:
        return image
    left, top = (math.trunc((old - new) / 2) for old, new in zip(image.size, size, strict=True))
    return image.crop((left, top, left + size[0], top + size[1]))  # Pillow fills what lies outside with zeros


def largest_crop(size: Size, aspect: Size) -> Size:
    """Return the largest size within ``size`` that has the aspect of ``aspect``, rounded to whole pixels.

    Raises:
        TooSmallError: It is smaller than ``aspect`` itself, so that it would have to be enlarged.
    """
    (width, height), (aspect_width, aspect_height) = size, aspect
    if width < aspect_width or height < aspect_height:
        raise TooSmallError(f"is {width}x{height}, smaller than {aspect_width}x{aspect_height}")
    crop_width = min(width, round(height * aspect_width / aspect_height))
    crop_height = min(height, round(width * aspect_height / aspect_width))
    return crop_width, crop_height
