"""From any photograph to what is trained on: 8-bit RGB or grey pixels of the wanted size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from dnnlib.util import UserError
from training.data.codec import BadImageError
from training.data.layout import MIN_RESOLUTION_PX, is_resolution

RESIZE_FILTERS = {"box": Image.Resampling.BOX, "lanczos": Image.Resampling.LANCZOS}

MODES = {"rgb": "RGB", "grey": "L"}

TRANSFORMS = ("center-crop", "center-crop-wide")


class TooSmallError(BadImageError):
    """An image smaller than what is to be cut out of it."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What is done to every image.

    Attributes:
        mode: ``'rgb'`` or ``'grey'`` converts all images; ``'auto'`` leaves grey ones grey.
        transform: None stretches to width x height, either of which defaults to the image's own. ``'center-crop'``
            resizes the middle square. ``'center-crop-wide'`` cuts out the middle with the aspect width:height,
            resizes it, and adds black bands above and below up to a square of the width.
        width_px: Width of the result.
        height_px: Height of the result, before the bands are added.
        resize_filter: A key of `RESIZE_FILTERS`.

    Raises:
        UserError: A size that cannot be trained on, or too little to crop to.
    """

    mode: str
    transform: str | None
    width_px: int | None
    height_px: int | None
    resize_filter: str

    def __post_init__(self) -> None:
        width_px, height_px = self.width_px, self.height_px
        if width_px is None or height_px is None:
            if self.transform is not None:
                raise UserError(f"--transform={self.transform} needs --width and --height")
        elif height_px > width_px or (height_px < width_px and self.transform != "center-crop-wide"):
            raise UserError(f"--width={width_px} --height={height_px}: training needs squares")
        side_px = width_px or height_px
        if side_px is not None and not is_resolution(side_px):
            raise UserError(f"{side_px} pixels are no power of two from {MIN_RESOLUTION_PX}, which training needs")

    def __call__(self, image: Image.Image) -> Image.Image:
        """Convert a decoded image.

        Raises:
            BadImageError: Pixels of a kind that has no 8-bit equivalent.
            TooSmallError: Only with ``'center-crop-wide'``.
        """
        image = to_8_bit(image)
        if self.mode != "auto":
            image = image.convert(MODES[self.mode])
        size_px = self._size_px(image)
        image = self._cut(image, size_px).resize(size_px, RESIZE_FILTERS[self.resize_filter])
        return letterbox(image) if self.transform == "center-crop-wide" else image

    def resizes(self, image: Image.Image) -> bool:
        """Whether pixels of an image go through ``resize_filter``; otherwise it is cut at most."""
        size_px = self._size_px(image)
        return self._cut(image, size_px).size != size_px

    def _size_px(self, image: Image.Image) -> tuple[int, int]:
        return self.width_px or image.width, self.height_px or image.height

    def _cut(self, image: Image.Image, size_px: tuple[int, int]) -> Image.Image:
        if self.transform == "center-crop-wide":
            return crop_to_aspect(image, *size_px)
        if self.transform == "center-crop":
            side_px = min(image.size)
            return crop_middle(image, side_px, side_px)
        return image


def to_8_bit(image: Image.Image) -> Image.Image:
    """Convert to mode L if the image is grey, else to RGB; transparent parts show white.

    Of 16-bit values the high byte is kept, as Pillow itself does for RGB. Colour profiles are ignored.

    Raises:
        BadImageError: 32-bit integer or floating-point pixels, whose range nothing states.
    """
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise BadImageError("has 32-bit pixels of unknown range; save it with 8 or 16 bits")
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    try:
        return image.convert(mode)
    except ValueError as err:
        raise BadImageError(f"has pixels in mode {image.mode}, which cannot be converted") from err


def crop_middle(image: Image.Image, width_px: int, height_px: int) -> Image.Image:
    """Cut out the middle; an odd rest is cut off at the right and bottom."""
    left, top = (image.width - width_px) // 2, (image.height - height_px) // 2
    return image.crop((left, top, left + width_px, top + height_px))


def crop_to_aspect(image: Image.Image, width_px: int, height_px: int) -> Image.Image:
    """Cut out the largest middle with the aspect of width:height.

    Raises:
        TooSmallError: It would have to be enlarged.
    """
    if image.width < width_px or image.height < height_px:
        raise TooSmallError(f"is {image.width}x{image.height}, smaller than {width_px}x{height_px}")
    crop_width_px = min(image.width, round(image.height * width_px / height_px))
    crop_height_px = min(image.height, round(image.width * height_px / width_px))
    return crop_middle(image, crop_width_px, crop_height_px)


def letterbox(image: Image.Image) -> Image.Image:
    """Put a wide image in the middle of a black square."""
    square = Image.new(image.mode, (image.width, image.width))
    square.paste(image, (0, (image.width - image.height) // 2))
    return square
