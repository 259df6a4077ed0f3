"""Frames of videos: walks through W from image to image, sweeps of psi, grids, captions."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from dnnlib.errors import UserError
from training.inference.sampling import synthesize

EASINGS = ("linear", "smooth", "spline")
"""Ways from one key frame to the next, see `walk`."""

CAPTION_PX = 16
"""Height of the band below a captioned frame."""


def num_frames(num_keys: int, num_per_key: int, is_loop: bool) -> int:
    """Return the number of frames of `walk`: the last one is a key again, that of the beginning if it is a loop."""
    return (num_keys if is_loop else num_keys - 1) * num_per_key + 1


def walk(keys: torch.Tensor, num_per_key: int, is_loop: bool, easing: str = "smooth") -> Iterator[torch.Tensor]:
    """Go from key to key; the keys themselves are passed exactly.

    Args:
        keys: K ws ``[K, L, w_dim]``.
        num_per_key: Frames from a key to the next.
        is_loop: Return from the last key to the first.
        easing: ``'linear'``; ``'smooth'``, which rests at each key (3 t^2 - 2 t^3); or ``'spline'``, which passes the
            keys without stops or sharp turns (Catmull and Rom, 1974).

    Yields:
        ws ``[L, w_dim]``, `num_frames` of them.
    """
    num_keys = len(keys)

    def key(i: int) -> torch.Tensor:
        return keys[i % num_keys if is_loop else min(max(i, 0), num_keys - 1)]

    for frame in range(num_frames(num_keys, num_per_key, is_loop)):
        i, t = frame // num_per_key, frame % num_per_key / num_per_key
        before, here, there, beyond = (key(i + offset) for offset in (-1, 0, 1, 2))
        if easing == "spline":
            slope, bend = there - before, 2 * before - 5 * here + 4 * there - beyond
            yield here + 0.5 * t * (slope + t * (bend + t * (3 * (here - there) + beyond - before)))
        else:
            way = 3 * t**2 - 2 * t**3 if easing == "smooth" else t
            yield here + way * (there - here)


def sweep(low: float, high: float, num: int, is_loop: bool) -> list[float]:
    """Return ``num`` evenly spaced numbers from ``low`` to ``high``, both included, and back again if it is a loop."""
    forth = [low + (high - low) * i / (num - 1) for i in range(num - 1)] + [high]
    return forth + forth[-2::-1] if is_loop else forth


def draw_frames(
    G: Any,
    walks: Sequence[Iterable[torch.Tensor]],
    columns: int,
    batch_size: int,
    noise_mode: str = "const",
    noise_seeds: Sequence[int] | None = None,
    rows: int | None = None,
) -> Iterator[np.ndarray]:
    """Draw several walks at the same time, side by side in a grid.

    Args:
        G: The generator.
        walks: ws ``[L, w_dim]`` of each cell, row by row; they have the same number of frames.
        columns: Columns of the grid.
        batch_size: Images drawn at a time.
        noise_mode: Noise mode, as for `synthesize`.
        noise_seeds: Seed of the random noise of each cell, which does not change from frame to frame.
        rows: Rows of the grid; None for as many as the walks need.

    Yields:
        uint8 ``[H, W, C]``; unused cells are black.
    """
    seeds = noise_seeds or range(len(walks))
    items = ((w, seed) for step in zip(*walks, strict=True) for w, seed in zip(step, seeds, strict=True))
    cells: list[np.ndarray] = []
    while part := list(itertools.islice(items, batch_size)):
        ws, part_seeds = zip(*part, strict=True)
        cells.extend(synthesize(G, torch.stack(ws), noise_mode, part_seeds))
        while len(cells) >= len(walks):
            yield tile(cells[: len(walks)], columns, rows)
            del cells[: len(walks)]


def counted(frames: Iterable[np.ndarray], progress: Any) -> Iterator[np.ndarray]:
    """Advance a progress bar after each frame."""
    for frame in frames:
        yield frame
        progress.update()


def tile(images: Sequence[np.ndarray], columns: int, rows: int | None = None) -> np.ndarray:
    """Put uint8 images ``[H, W, C]`` in a grid, row by row; unused cells are black.

    Args:
        images: They have the same size.
        columns: Columns of the grid.
        rows: Rows, enough for the images; None for as many as they need.
    """
    height, width, channels = images[0].shape
    rows = rows or -(-len(images) // columns)
    canvas = np.zeros([rows * height, columns * width, channels], np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * height, i % columns * width
        canvas[top : top + height, left : left + width] = image
    return canvas


def captioned(frame: np.ndarray, text: str) -> np.ndarray:
    """Add a band with text below a frame ``[H, W, C]``."""
    _height, width, channels = frame.shape
    band = Image.new("L" if channels == 1 else "RGB", (width, CAPTION_PX))
    ImageDraw.Draw(band).text((4, 2), text, fill="white")
    return np.concatenate([frame, np.asarray(band).reshape(CAPTION_PX, width, channels)])


def split_walks(numbers: Sequence[int], num_walks: int) -> list[Sequence[int]]:
    """Divide key frames into consecutive walks of the same length.

    Raises:
        UserError: They cannot be divided, or there are fewer than two for each.
    """
    num_keys, rest = divmod(len(numbers), num_walks)
    if rest or num_keys < 2:
        if num_walks == 1:
            raise UserError("a video goes from image to image, but there is only one: give two or more --seeds or w")
        raise UserError(
            f"a video of {num_walks} walks needs the same number of key frames for each, two or more, not "
            f"{len(numbers)} in all: change --seeds or --grid"
        )
    return [numbers[start : start + num_keys] for start in range(0, len(numbers), num_keys)]
