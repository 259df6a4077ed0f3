"""Overview of a grid of images: its upper left, small enough for a page."""

from __future__ import annotations

import numpy as np

OVERVIEW_PX = (896, 512)
"""Largest width and height of an overview."""
TILE_PX = 128
"""Largest side of an image in it."""
MIN_TILE_PX = 64
"""Side reserved for a smaller image, so that few are shown and they can be enlarged."""


def overview_size(columns: int, rows: int, width_px: int, height_px: int) -> tuple[int, int]:
    """Return how many (columns, rows) of a grid of images of this size an overview shows, from the upper left on."""
    side_px = min(max(width_px, height_px, MIN_TILE_PX), TILE_PX)
    return min(columns, OVERVIEW_PX[0] // side_px), min(rows, OVERVIEW_PX[1] // side_px)


def overview(img: np.ndarray, columns: int) -> np.ndarray:
    """Return the upper left of a grid, large images scaled down, uint8 ``[H, W, C]``.

    Args:
        img: The images row by row, float32 ``[N, C, H, W]`` of about [-1, 1]; nan is black.
        columns: Number of images in a row.
    """
    num, channels, height, width = img.shape
    shown_columns, shown_rows = overview_size(columns, num // columns, width, height)
    factor = -(-max(height, width) // TILE_PX)
    tiles = img.reshape(num // columns, columns, channels, height, width)[:shown_rows, :shown_columns]
    tiles = np.nan_to_num(tiles[..., : height // factor * factor, : width // factor * factor], nan=-1).clip(-1, 1)
    tiles = tiles.reshape(*tiles.shape[:3], height // factor, factor, width // factor, factor).mean(axis=(4, 6))
    canvas = tiles.transpose(0, 3, 1, 4, 2).reshape(shown_rows * (height // factor), -1, channels)
    return np.rint((canvas + 1) * 127.5).astype(np.uint8)
