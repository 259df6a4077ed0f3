"""Videos: mp4 if the packages of extra ``video`` are installed, animated WebP and GIF."""

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
from dnnlib.commands import how_to_install
from dnnlib.errors import UserError

FRAMES_PER_SEC = 20
MAX_GIF_FPS = 50
"""Browsers slow down what is faster to 10 frames per second."""
MAX_SIDES_PX = {".mp4": 16384, ".webp": 16383, ".gif": 65535}
"""Longest side that the encoder of a format takes."""
MAX_WEBP_PX = 512
"""Maximum height of the frames of a WebP or GIF, all of which Pillow keeps in memory."""
MAX_KEPT_BYTES = 1 << 30
"""Limit of all frames of a WebP or GIF together."""


def write_video(frames: Iterable[np.ndarray], path: Path, fps: int = FRAMES_PER_SEC) -> Path:
    """Write a video; it appears complete or not at all.

    Args:
        frames: uint8 ``[H, W, C]``, at least one, all of one size, with 1 or 3 channels. In an mp4, an odd height or
            width grows by a pixel that repeats the edge, because its chroma has half the resolution. Those of a WebP or
            GIF are shrunk to a height of `MAX_WEBP_PX`.
        path: ``<name>.mp4``, ``<name>.webp`` or ``<name>.gif``.
        fps: Frames per second; for a GIF at most `MAX_GIF_FPS`.

    Returns:
        ``path``, or ``<name>.webp`` if an mp4 was asked for and cannot be written here.

    Raises:
        UserError: A WebP or GIF would not fit into memory, or a side of the first frame is too long for the format.
        ValueError: The frames of an mp4 are not all of one size.
    """
    if path.suffix == ".mp4" and (find_spec("imageio") is None or find_spec("imageio_ffmpeg") is None):
        path = path.with_suffix(".webp")
    encode = _encode_mp4 if path.suffix == ".mp4" else _encode_animation
    encoded = encode(frames, path, played_fps(path, fps))
    write_atomic(path, encoded)
    return path


def why_webp() -> str:
    """Say why a video is a WebP where an mp4 was asked for."""
    return f"The video is a WebP because an mp4 needs: {how_to_install('video')}"


def played_fps(path: Path, fps: int) -> int:
    """Return the frames per second at which a file of this name plays when ``fps`` are asked for."""
    return min(fps, MAX_GIF_FPS) if path.suffix == ".gif" else fps


def _check_sides(path: Path, width: int, height: int) -> None:
    """Refuse what an encoder would fail at after the last frame, or write an empty file for."""
    if max(width, height) > MAX_SIDES_PX[path.suffix]:
        raise UserError(
            f"{path.name} would have {width}x{height} pixels, this format has at most {MAX_SIDES_PX[path.suffix]} per "
            "side: draw fewer columns or rows, or write another format"
        )


def _encode_mp4(frames: Iterable[np.ndarray], path: Path, fps: int) -> bytes:
    from imageio.v2 import get_writer

    with tempfile.TemporaryDirectory() as folder:
        temp = Path(folder, "video.mp4")
        writer: Any
        with get_writer(temp, fps=fps, quality=9, macro_block_size=2) as writer:
            for frame in frames:
                height, width, _channels = frame.shape
                _check_sides(path, width, height)
                writer.append_data(np.pad(frame, [(0, height % 2), (0, width % 2), (0, 0)], mode="edge"))
        return temp.read_bytes()


def _encode_animation(frames: Iterable[np.ndarray], path: Path, fps: int) -> bytes:
    kept: list[Image.Image] = []
    num_bytes = 0
    for frame in frames:  # one by one, so that only small ones are kept
        kept.append(_small(frame))
        _check_sides(path, *kept[-1].size)
        num_bytes += kept[-1].width * kept[-1].height * len(kept[-1].getbands())
        if num_bytes > MAX_KEPT_BYTES:
            raise UserError(
                f"{path.name} has more than {MAX_KEPT_BYTES >> 20} MiB of frames: make it smaller or shorter, or write "
                f"an mp4 ({how_to_install('video')})"
            )
    buffer = io.BytesIO()
    options: dict[str, Any] = {"quality": 90} if path.suffix == ".webp" else {}
    kept[0].save(
        buffer, path.suffix[1:].upper(), save_all=True, append_images=kept[1:], duration=1000 // fps, loop=0, **options
    )
    return buffer.getvalue()


def _small(frame: np.ndarray) -> Image.Image:
    image = Image.fromarray(frame.squeeze(2) if frame.shape[2] == 1 else frame)
    image.thumbnail((image.width, MAX_WEBP_PX))
    return image
