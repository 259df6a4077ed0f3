"""A video of the images that a run's generator draws as it trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dnnlib.errors import UserError
from training.data.codec import BadImageError, load_image, open_image
from training.data.preparation import to_8_bit
from training.inference.video_frames import captioned
from training.run.folder import is_run
from training.run.lookup import find_network
from training.run.names import GRIDS, SNAPSHOTS, find_grids, list_snapshots

MAX_SIDE_PX = 1920
"""Larger pictures are shrunk: few players show an mp4 of 8000 pixels."""


def run_dir_of(network: str) -> Path:
    """Return the folder of the run in which `find_network` finds networks, or another folder as it is.

    Raises:
        UserError: There is no such file or folder.
    """
    path = Path(network)
    if path.is_dir() and is_run(path):
        return path
    found = Path(find_network(network))
    if not found.exists():
        raise UserError(f"no such file or folder: {network}; a video over training needs a run, or a snapshot in it")
    return found if found.is_dir() else found.parent


def snapshots(run_dir: Path) -> list[tuple[float, Path]]:
    """List the network snapshots of a run by kimg.

    Raises:
        UserError: There are none.
    """
    return _unless_none(list_snapshots(run_dir), run_dir, SNAPSHOTS)


def sample_grids(run_dir: Path) -> list[tuple[float, Path]]:
    """List the grids of generated images that the page of a run shows, by kimg; ``fakes_init.png`` is at 0.

    Raises:
        UserError: There are none.
    """
    return _unless_none([(name.kimg, path) for name, path in find_grids(run_dir)], run_dir, GRIDS)


def _unless_none(found: list[tuple[float, Path]], run_dir: Path, what: str) -> list[tuple[float, Path]]:
    if not found:
        raise UserError(f"{run_dir} holds no {what}: give the folder of a run, or a snapshot in it")
    return found


def sample_frames(grids: Sequence[tuple[float, Path]]) -> Iterator[np.ndarray]:
    """Read grids of generated images as frames, uint8 ``[H, W, C]`` of one size, each with its kimg below.

    Raises:
        UserError: A file is not an image, or has another size than the first.
    """
    size = None
    for kimg, path in grids:
        try:
            with open(path, "rb") as file:
                image = to_8_bit(load_image(open_image(file)))
        except BadImageError as error:
            raise UserError(f"{path} {error}") from error
        image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.LANCZOS)
        size = size or image.size
        if image.size != size:
            raise UserError(f"{path} is {image.width}x{image.height}, the first picture {size[0]}x{size[1]}")
        yield captioned(np.asarray(image).reshape(image.height, image.width, -1), kimg_text(kimg))


def kimg_text(kimg: float) -> str:
    """Return the caption of a frame."""
    return f"{kimg:g} kimg"
