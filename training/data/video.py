"""Films: mp4 where package imageio-ffmpeg is installed, else animated WebP."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from dnnlib.atomic import write_atomic

FRAMES_PER_SEC = 20
MAX_WEBP_PX = 512
"""Height of the frames of a WebP, all of which Pillow keeps in memory."""


def write_video(frames: Iterable[np.ndarray], path: Path) -> Path:
    """Write a film.

    Args:
        frames: uint8 ``[H, W, C]``, at least one, all of one size, with 1 or 3 channels.
        path: ``<name>.mp4``.

    Returns:
        ``path``, or ``<name>.webp`` if mp4 cannot be written here.
    """
    images = (Image.fromarray(frame.squeeze(2) if frame.shape[2] == 1 else frame).convert("RGB") for frame in frames)
    try:
        import imageio_ffmpeg
    except ImportError:
        return _write_webp(images, path.with_suffix(".webp"))
    first = next(images)
    writer = imageio_ffmpeg.write_frames(str(path), first.size, fps=FRAMES_PER_SEC, quality=9, macro_block_size=2)
    with contextlib.closing(writer):
        writer.send(None)  # starts ffmpeg
        for image in itertools.chain([first], images):
            writer.send(image.tobytes())
    return path


def _write_webp(images: Iterable[Image.Image], path: Path) -> Path:
    buffer = io.BytesIO()
    first, *rest = (_shrink(image) for image in images)
    first.save(buffer, "WEBP", save_all=True, append_images=rest, duration=1000 // FRAMES_PER_SEC, loop=0, quality=90)
    write_atomic(path, buffer.getvalue())
    return path


def _shrink(image: Image.Image) -> Image.Image:
    image.thumbnail((image.width, MAX_WEBP_PX))
    return image
