"""Targets of a projection: images of any size, cropped as asked."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dnnlib.errors import UserError
from training.data.archive import open_archive
from training.data.codec import BadImageError, load_image, open_image, read_image, require_images
from training.data.names import first_few, shown
from training.data.preparation import Preparation, value_range
from training.inference.crop import PAD, Crop

MAX_TARGETS = 1000

FEW_BITS = 12
"""16-bit values that use no more bits become pixels of at most 15."""


@dataclass(frozen=True)
class Target:
    """An image to be projected.

    Attributes:
        file: Its path or name.
        pixels: uint8 ``[R, R, C]``.
        square: (left, top, side) of the crop, in pixels of the upright image.
    """

    file: str
    pixels: np.ndarray
    square: tuple[int, int, int]


def is_collection(path: Path) -> bool:
    """Return whether a path of targets is a folder or a zip of images, not a single image."""
    return path.is_dir() or path.suffix.lower() == ".zip"


def keep_apart(outdir: Path, targets: Path) -> None:
    """Refuse an output folder within a folder of targets, whose files would be targets the next time.

    Raises:
        UserError: It is that folder, or below it.
    """
    if targets.is_dir() and outdir.resolve().is_relative_to(targets.resolve()):
        raise UserError(
            f"--outdir={outdir} lies in --target={targets}, so that its pictures would be targets the next time: "
            "write to a folder outside it"
        )


def read_targets(path: Path, crop: Crop, resolution_px: int, num_channels: int) -> tuple[list[Target], list[str]]:
    """Read an image file, or all images in a folder or zip, at the resolution of a network.

    Returns:
        The targets, and a line for each image of a folder or zip that is damaged or too small for the crop.

    Raises:
        UserError: There is no image, none that can be projected, or too many, or the network is neither grayscale nor
            RGB.
    """
    if num_channels not in (1, 3):
        raise UserError(f"projection supports networks with 1 or 3 color channels, this one has {num_channels}")

    def read_all(readers: Mapping[str, Callable[[], Image.Image]]) -> tuple[list[Target], list[str]]:
        targets, problems = list[Target](), list[str]()
        for name, read in readers.items():
            try:
                image = load_image(read())
                _refuse_few_bits(image)
                square = crop.square(*image.size)
                targets.append(Target(name, prepared(image, crop, square, resolution_px, num_channels), square))
            except BadImageError as error:
                problems.append(f"{shown(name)} {error}")
        if not targets:
            raise UserError(first_few(problems, 3))
        return targets, problems

    if is_collection(path):
        with closing(open_archive(path)) as archive:
            names = require_images(archive)
            if len(names) > MAX_TARGETS:
                raise UserError(f"{path} holds {len(names)} images, more than {MAX_TARGETS} at once: split it")
            return read_all({name: functools.partial(read_image, archive, name) for name in names})
    if not path.is_file():
        raise UserError(f"{path} is not a regular file")
    with open(path, "rb") as file:
        return read_all({str(path): lambda: open_image(file)})


def _refuse_few_bits(image: Image.Image) -> None:
    """Refuse a 16-bit image of which nothing would be left: the upper 8 bits are what is used."""
    if image.mode.startswith("I;16") and (highest := value_range(image)[1]) < 1 << FEW_BITS:
        raise BadImageError(
            f"has 16-bit values up to {highest} only, out of 65535, which would be almost black: scale them, or save "
            "it with 8 bits"
        )


def prepared(
    image: Image.Image, crop: Crop, square: tuple[int, int, int], resolution_px: int, num_channels: int
) -> np.ndarray:
    """Crop and resize a decoded image as datasets are: uint8 ``[R, R, C]``."""
    if crop.how == "box":
        left, top, side = square
        image = image.crop((left, top, left + side, top + side))
    prepare = Preparation(
        mode="grey" if num_channels == 1 else "rgb",
        transform="pad" if crop.how == PAD else "center-crop",
        width_px=resolution_px,
        height_px=resolution_px,
        resize_filter="lanczos",
    )
    return np.array(prepare(image)).reshape(resolution_px, resolution_px, num_channels)


def to_tensor(images: Sequence[np.ndarray], device: torch.device) -> torch.Tensor:
    """Images, uint8 ``[H, W, C]``, as a batch ``[N, C, H, W]``, float32 in 0..255."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(device, torch.float32)
