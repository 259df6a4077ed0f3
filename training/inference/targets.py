"""Targets of a projection: images of any size, cropped as asked, and their distances from the results."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dnnlib.util import UserError, format_number
from metrics.detectors import EFFLITE1, VGG16
from training.data.archive import open_archive
from training.data.codec import BadImageError, load_image, open_image, read_image, require_images
from training.data.names import first_few, shown
from training.data.preparation import Preparation, value_range
from training.inference.projection import perceptual_features, squared_distances

MAX_TARGETS = 1000

FEW_BITS = 12
"""16-bit values that use no more bits become pixels of at most 15."""

CENTER, PAD = "center", "pad"

_NAMES = {EFFLITE1: "perceptual (efflite)", VGG16: "LPIPS (VGG16)"}


def distance_name(detector: str) -> str:
    """Name of the distance in a feature network: LPIPS only for the network that was calibrated for it."""
    return _NAMES.get(detector) or f"perceptual ({shown(Path(detector).stem)})"


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
    """Whether a path of targets is a folder or a zip of images, not a single image."""
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


def distances(
    image: np.ndarray, target: np.ndarray, detector: torch.nn.Module, name: str, device: torch.device
) -> dict[str, float]:
    """Distances of two uint8 images ``[H, W, C]``.

    Args:
        image: One image.
        target: The other image.
        detector: Feature network.
        name: Name of the distance in it, see `distance_name`.
        device: Device of the feature network.

    Returns:
        ``'pixels'``, the root of the mean squared difference, 0..255; and the squared distance of the features.
    """
    error = float(np.sqrt(np.mean((image.astype(np.float64) - target) ** 2)))
    with torch.no_grad():
        features = [perceptual_features(detector, to_tensor([each], device)) for each in (image, target)]
    return {"pixels": error, name: squared_distances(*features).item()}


def mean_distances(each: list[dict[str, float]]) -> dict[str, float]:
    """Mean of every distance over several images."""
    return {key: sum(values[key] for values in each) / len(each) for key in each[0]}


def in_words(values: dict[str, float]) -> str:
    """Distances as a text."""
    return ", ".join(f"{key} {format_number(value)}" for key, value in values.items())
