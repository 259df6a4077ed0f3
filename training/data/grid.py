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
        drange: Values that become black and white; values in between are rounded to 8 bits, nan becomes black.
        grid_size: (columns, rows).

    Raises:
        OSError: The file cannot be written.
        ValueError: There are too few or too many images, or they have another number of channels.
    """
    low, high = drange
    columns, rows = grid_size
    if img.ndim != 4 or len(img) != columns * rows or img.shape[1] not in (1, 3):
        raise ValueError(f"img must be [{columns * rows}, 1 or 3, H, W] for {grid_size=}, got {list(img.shape)}")
    _num, channels, height, width = img.shape
    pixels = (np.asarray(img, dtype=np.float32) - low) * (255 / (high - low))
    pixels = np.nan_to_num(np.rint(pixels)).clip(0, 255).astype(np.uint8)
    canvas = pixels.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    write_png(canvas.reshape(rows * height, columns * width, channels), fname)


def write_png(pixels: np.ndarray, fname: str | Path) -> None:
    """Write uint8 pixels ``[H, W, C]`` with 1 or 3 channels as a PNG file, replacing it atomically.

    Raises:
        OSError: The file cannot be written.
    """
    write_atomic(fname, encode_png(pixels))


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode uint8 pixels ``[H, W, C]`` with 1 or 3 channels as PNG."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, format="PNG")
    return buffer.getvalue()
