"""PNG files: a single image, or a grid of images."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import PIL.Image

from dnnlib.atomic import write_atomic


def save_image_grid(
    img: np.ndarray, fname: str | Path, drange: tuple[float, float], grid_size: tuple[int, int]
) -> None:
    """Write images as one PNG file, replacing it atomically.

    Args:
        img: ``[columns * rows, C, H, W]`` with 1 or 3 channels, in row-major order.
        fname: The file.
        drange: Values that become black and white; values in between are rounded to 8 bits.
        grid_size: (columns, rows).

    Raises:
        OSError: The file cannot be written.
    """
    low, high = drange
    columns, rows = grid_size
    _num, channels, height, width = img.shape
    pixels = (np.asarray(img, dtype=np.float32) - low) * (255 / (high - low))
    pixels = np.rint(pixels).clip(0, 255).astype(np.uint8)
    canvas = pixels.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    write_png(canvas.reshape(rows * height, columns * width, channels), fname)


OVERVIEW_PX = (896, 512)
"""Largest width and height of an overview."""
TILE_PX = 128
"""Largest side of an image in it."""
LEAST_TILE_PX = 64
"""Smaller images are shown as few as if they had this side: so that they are enlarged, not crowded."""


def overview_size(columns: int, rows: int, width_px: int, height_px: int) -> tuple[int, int]:
    """Return how many (columns, rows) of a grid of images of this size an overview shows, from the upper left on."""
    side_px = min(max(width_px, height_px, LEAST_TILE_PX), TILE_PX)
    return min(columns, OVERVIEW_PX[0] // side_px), min(rows, OVERVIEW_PX[1] // side_px)


def overview(img: np.ndarray, columns: int) -> np.ndarray:
    """Return the upper left of a grid, large images scaled down, uint8 ``[H, W, C]``.

    Args:
        img: The images row by row, float32 ``[N, C, H, W]`` of about [-1, 1].
        columns: Number of images in a row.
    """
    num, channels, height, width = img.shape
    shown_columns, shown_rows = overview_size(columns, num // columns, width, height)
    factor = -(-max(height, width) // TILE_PX)
    tiles = img.reshape(num // columns, columns, channels, height, width)[:shown_rows, :shown_columns]
    tiles = tiles[..., : height // factor * factor, : width // factor * factor].clip(-1, 1)
    tiles = tiles.reshape(*tiles.shape[:3], height // factor, factor, width // factor, factor).mean(axis=(4, 6))
    canvas = tiles.transpose(0, 3, 1, 4, 2).reshape(shown_rows * (height // factor), -1, channels)
    return np.rint((canvas + 1) * 127.5).astype(np.uint8)


def write_png(pixels: np.ndarray, fname: str | Path) -> None:
    """Write uint8 pixels ``[H, W, C]`` with 1 or 3 channels as a PNG file, replacing it atomically.

    Raises:
        OSError: The file cannot be written.
    """
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, format="PNG")
    write_atomic(fname, buffer.getvalue())
