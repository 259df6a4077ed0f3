"""The size and colors that all images of a dataset must share, and the command that converts them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from dnnlib.commands import how_to_run
from dnnlib.errors import UserError
from training.data.archive_base import Archive
from training.data.codec import BadImageError, open_image
from training.data.names import shown

NUM_CHANNELS = {"L": 1, "RGB": 3}
"""Pillow's modes that can be trained on."""

MIN_RESOLUTION_PX = 4

MAX_RESOLUTION_PX = 4096
"""A loader process takes 160 MiB to decode an image of this size."""

MAX_HEADERS = 1000
"""Every header of up to this many images is read; of more images, a sample."""

NUM_SAMPLED_HEADERS = 200


class UnequalImagesError(UserError):
    """Images that are not equal squares; ``dataset_tool.py`` can make them so."""

    def __init__(self, text: str, side_px: int) -> None:
        super().__init__(text)
        self.side_px = side_px
        """A size that suits them."""


class ImageLayout(NamedTuple):
    """Width and height in pixels, and Pillow's name of the pixel format, e.g. ``'RGB'``."""

    width: int
    height: int
    mode: str

    @classmethod
    def of(cls, image: Image.Image) -> ImageLayout:
        """Return the layout of an image, which may be undecoded."""
        return cls(image.width, image.height, image.mode)

    @property
    def is_trainable(self) -> bool:
        """Whether it is square with a power-of-two side, RGB or grey."""
        return self.width == self.height and is_resolution(self.width) and self.mode in NUM_CHANNELS

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {'grey' if self.mode == 'L' else self.mode}"


def is_resolution(side_px: int) -> bool:
    """Return whether training takes images of this side: a power of two, `MIN_RESOLUTION_PX` to `MAX_RESOLUTION_PX`."""
    return MIN_RESOLUTION_PX <= side_px <= MAX_RESOLUTION_PX and side_px & (side_px - 1) == 0


def common_layout(archive: Archive, names: Sequence[str]) -> ImageLayout:
    """Return the layout that all images share, according to their headers.

    If there are more than `MAX_HEADERS`, only the first, the last and some in between are read, as all would take
    minutes; training skips and reports a wrong one when it gets there, and ``dataset_tool.py --verify`` reads all.
    Unreadable files are left to training too.

    Raises:
        UserError: An image cannot be trained on or differs from the first; the text ends in a command that fixes it.
    """
    first, fault = None, ""
    for name in _sample(names):
        try:
            with archive.open(name) as file:
                layout = ImageLayout.of(open_image(file))
        except (BadImageError, OSError) as err:
            fault = fault or f"{shown(name)} {err}"
            continue
        first = first or layout
        if layout != first or not layout.is_trainable:
            # Such as a grid.png beside images that were generated one by one.
            unlike = f", the first image is {first}: take it out if it is none of them" if first.is_trainable else ""
            text = f"{archive.path}: {shown(name)} is {layout}{unlike}; {preparation_command(archive, layout, first)}"
            raise UnequalImagesError(text, _suitable_side(layout, first))
    if first is None:
        raise UserError(f"{archive.path}: none of the {len(names)} image files in it can be read; the first: {fault}")
    return first


def _sample(names: Sequence[str]) -> Iterator[str]:
    num_names = len(names)
    num_read = num_names if num_names <= MAX_HEADERS else NUM_SAMPLED_HEADERS
    return (names[round(position)] for position in np.linspace(0, num_names - 1, num_read))


def preparation_command(archive: Archive, wrong: ImageLayout, first: ImageLayout) -> str:
    """Say what training needs and which ``dataset_tool.py`` command prepares the images.

    Args:
        archive: The images.
        wrong: Layout of an image that cannot be used.
        first: Layout of the first image, which sets the size if it is usable itself.
    """
    side_px = _suitable_side(wrong, first)
    source = archive.path.resolve() if archive.path.name in ("", "..") else archive.path  # the parent of "." is itself
    dest = source.parent / f"{source.stem}-{side_px}.zip"
    options = [f"--source={archive.path}", f"--dest={dest}", f"--width={side_px}", f"--height={side_px}"]
    if wrong.width != wrong.height:
        options.append("--transform=center-crop")
    if wrong.mode != first.mode:
        options.append("--mode=rgb")
    return "training needs equal squares with a power-of-two side, all RGB or all grey; make them with: " + " ".join(
        [how_to_run("dataset_tool.py"), shlex.join(options)]
    )


def _suitable_side(wrong: ImageLayout, first: ImageLayout) -> int:
    side_px = first.width if first.is_trainable else max(min(wrong.width, wrong.height), MIN_RESOLUTION_PX)
    return min(1 << (side_px.bit_length() - 1), MAX_RESOLUTION_PX)
