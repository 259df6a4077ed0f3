"""The part of a target image that is projected."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import click

from training.data.codec import BadImageError

CENTER, PAD = "center", "pad"


@dataclass(frozen=True)
class Crop:
    """The square of an image that is projected.

    Attributes:
        how: `CENTER`, the largest square in the middle; `PAD`, the whole image with black bands; or ``'box'``.
        box: (left, top, side) in pixels of the upright image, for ``'box'``.
    """

    how: str
    box: tuple[int, int, int] = (0, 0, 0)

    def __str__(self) -> str:
        return ",".join(map(str, self.box)) if self.how == "box" else self.how

    def square(self, width_px: int, height_px: int) -> tuple[int, int, int]:
        """Return (left, top, side) within an image; with `PAD`, it begins outside.

        Raises:
            BadImageError: The box is not inside the image.
        """
        if self.how == "box":
            left, top, side = self.box
            if left + side > width_px or top + side > height_px:
                raise BadImageError(f"has {width_px}x{height_px} pixels: the square --crop={self} is not inside it")
            return self.box
        side = min(width_px, height_px) if self.how == CENTER else max(width_px, height_px)
        return int((width_px - side) / 2), int((height_px - side) / 2), side


def parse_crop(text: str) -> Crop | None:
    """Read ``center``, ``pad`` or ``LEFT,TOP,SIDE``; None if it is none of them."""
    if text in (CENTER, PAD):
        return Crop(text)
    match = re.fullmatch(r"(\d{1,6}),(\d{1,6}),([1-9]\d{0,5})", text, re.ASCII)
    return None if match is None else Crop("box", (int(match[1]), int(match[2]), int(match[3])))


class CropType(click.ParamType):
    """``center``, ``pad`` or ``LEFT,TOP,SIDE``."""

    name = "center|pad|LEFT,TOP,SIDE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Crop:
        """Return the crop."""
        crop = value if isinstance(value, Crop) else parse_crop(str(value))
        if crop is None:
            self.fail(f"{str(value)[:100]!a}: give center, pad or LEFT,TOP,SIDE in pixels", param, ctx)
        return crop
