"""Grids of sample images: which real images go into one, and how it is written."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import PIL.Image

from torch_utils.atomic import write_atomic
from training.dataset import Dataset


def grid_size(height_px: int, width_px: int) -> tuple[int, int]:
    """(columns, rows) of a grid of about 8K resolution (CONTRACT 8)."""
    return int(np.clip(7680 // width_px, 7, 32)), int(np.clip(4320 // height_px, 4, 32))


def setup_snapshot_image_grid(
    training_set: Dataset, random_seed: int = 0
) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    """Choose real images for a grid: at random, or one label per row where there are labels.

    Args:
        training_set: Images with labels.
        random_seed: Decides the choice.

    Returns:
        (columns, rows), images uint8 ``[columns * rows, C, H, W]`` row by row, labels ``[columns * rows, label_dim]``.
    """
    rng = np.random.RandomState(random_seed)
    columns, rows = grid_size(*training_set.image_shape[1:])
    order = rng.permutation(len(training_set))
    if training_set.has_labels:
        indices = _one_label_per_row(training_set, order, columns, rows)
    else:
        indices = np.resize(order, columns * rows)
    images, labels = zip(*(training_set[int(i)] for i in indices), strict=True)
    return (columns, rows), np.stack(images), np.stack(labels)


def _one_label_per_row(training_set: Dataset, order: np.ndarray, columns: int, rows: int) -> np.ndarray:
    groups: dict[bytes, list[int]] = {}
    for index in order:
        groups.setdefault(training_set.get_label(int(index)).tobytes(), []).append(int(index))
    ordered = [groups[key] for key in sorted(groups)]
    return np.concatenate([np.resize(ordered[row % len(ordered)], columns) for row in range(rows)])


def save_image_grid(
    img: np.ndarray, fname: str | Path, drange: tuple[float, float], grid_size: tuple[int, int]
) -> None:
    """Write images as one PNG.

    Args:
        img: ``[columns * rows, C, H, W]``, 1 or 3 channels, row by row.
        fname: The file.
        drange: Values that become black and white.
        grid_size: (columns, rows).
    """
    low, high = drange
    columns, rows = grid_size
    _num, channels, height, width = img.shape
    pixels = (np.asarray(img, dtype=np.float32) - low) * (255 / (high - low))
    pixels = np.rint(pixels).clip(0, 255).astype(np.uint8)
    canvas = pixels.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    write_png(canvas.reshape(rows * height, columns * width, channels), fname)


def write_png(pixels: np.ndarray, fname: str | Path) -> None:
    """Write uint8 pixels ``[H, W, C]`` with 1 or 3 channels as PNG, in one step."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, format="PNG")
    write_atomic(fname, buffer.getvalue())
