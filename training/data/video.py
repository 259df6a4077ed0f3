"""Videos: mp4 if the packages of extra ``video`` are installed, else animated WebP."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dnnlib.atomic import write_atomic

FRAMES_PER_SEC = 20
MAX_WEBP_PX = 512
"""Maximum height of the frames of a WebP, all of which Pillow keeps in memory."""


def write_video(frames: Iterable[np.ndarray], path: Path) -> Path:
    """Write a video; it appears complete or not at all.

    Args:
        frames: uint8 ``[H, W, C]``, at least one, all of one size, with 1 or 3 channels. In an mp4, an odd height or
            width grows by a pixel that repeats the edge, because its chroma has half the resolution.
        path: ``<name>.mp4``.

    Returns:
        ``path``, or ``<name>.webp`` if mp4 cannot be written here.

    Raises:
        ValueError: The frames of an mp4 are not all of one size.
    """
    if find_spec("imageio") is None or find_spec("imageio_ffmpeg") is None:
        path = path.with_suffix(".webp")
        write_atomic(path, _encode_webp(frames))
    else:
        write_atomic(path, _encode_mp4(frames))
    return path


def _encode_mp4(frames: Iterable[np.ndarray]) -> bytes:
    from imageio.v2 import get_writer

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "video.mp4")
        writer: Any
        with get_writer(path, fps=FRAMES_PER_SEC, quality=9, macro_block_size=2) as writer:
            for frame in frames:
                height, width, _channels = frame.shape
                writer.append_data(np.pad(frame, [(0, height % 2), (0, width % 2), (0, 0)], mode="edge"))
        return path.read_bytes()


def _encode_webp(frames: Iterable[np.ndarray]) -> bytes:
    first, *rest = map(_webp_frame, frames)  # one by one, so that only small ones are kept
    buffer = io.BytesIO()
    duration_ms = 1000 // FRAMES_PER_SEC
    first.save(buffer, "WEBP", save_all=True, append_images=rest, duration=duration_ms, loop=0, quality=90)
    return buffer.getvalue()


def _webp_frame(frame: np.ndarray) -> Image.Image:
    image = Image.fromarray(frame.squeeze(2) if frame.shape[2] == 1 else frame)
    image.thumbnail((image.width, MAX_WEBP_PX))
    return image
