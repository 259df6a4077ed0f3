"""Sample grids of a run, scaled down to what a page can hold."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import PIL.Image

from dnnlib.atomic import write_atomic
from training.data.overview import OVERVIEW_PX, TILE_PX, overview_size
from training.run.json_files import read_small_file
from training.run.names import GridName, find_grids

T = TypeVar("T")
CACHE_FOLDER = "report-files"
"""Folder in the run folder that caches the pictures of its page, so that each grid is read once."""
WEBP_QUALITY = 80
MAX_FRAMES = 60
MAX_GRID_BYTES = 1 << 28
_UNREADABLE = (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError)
"""What is raised for files that are missing or damaged."""


@dataclass(frozen=True)
class Picture:
    """A picture of a grid."""

    label: str
    data: bytes
    """WebP."""
    width_px: int
    height_px: int

    @property
    def source(self) -> str:
        """Return it as a URL that holds the bytes."""
        return f"data:image/webp;base64,{base64.b64encode(self.data).decode()}"


def sample_pictures(run_dir: Path, side_px: int | None, max_bytes: int) -> list[Picture]:
    """Return pictures of the sample grids over time, evenly chosen so that they fit; the first and last are included.

    Args:
        run_dir: Run folder.
        side_px: Side of the images; None if unknown.
        max_bytes: Largest sum of the sizes of the pictures.
    """
    grids = _spread([(describe_grid(name), path) for name, path in find_grids(run_dir)], MAX_FRAMES)
    pictures = [picture for label, path in grids if (picture := small_picture(path, side_px, label)) is not None]
    while len(pictures) > 1 and sum(len(picture.data) for picture in pictures) > max_bytes:
        pictures = _spread(pictures, max(len(pictures) * 2 // 3, 1))
    return pictures


def describe_grid(name: GridName) -> str:
    """Describe in a few words what a grid shows."""
    if name.is_initial:
        return "before training"
    return f"after {name.kimg:g} kimg" + (", without averaging of weights" if name.is_unaveraged else "")


def _spread(items: Sequence[T], num: int) -> list[T]:
    """Choose evenly from a sequence, first and last included."""
    if len(items) <= num:
        return list(items)
    if num == 1:
        return [items[-1]]
    return [items[round(i * (len(items) - 1) / (num - 1))] for i in range(num)]


def small_picture(path: Path, side_px: int | None, label: str) -> Picture | None:
    """Return the upper left of a grid with images of at most 128 px; None if the file cannot be read."""
    cached = path.parent / CACHE_FOLDER / f"{path.stem}.webp"
    try:
        if cached.stat().st_mtime >= path.stat().st_mtime:
            return _describe(read_small_file(cached, MAX_GRID_BYTES), label)
    except _UNREADABLE:
        pass
    try:
        data = _draw(path, side_px)
        picture = _describe(data, label)
    except _UNREADABLE:
        return None
    with contextlib.suppress(OSError):  # the folder may be read-only
        cached.parent.mkdir(exist_ok=True)
        write_atomic(cached, data)
    return picture


def _describe(data: bytes, label: str) -> Picture:
    with PIL.Image.open(io.BytesIO(data), formats=["WEBP"]) as opened:
        return Picture(label, data, *opened.size)


def _draw(path: Path, side_px: int | None) -> bytes:
    if not path.is_file() or path.stat().st_size > MAX_GRID_BYTES:
        raise ValueError("no file, or too large")
    with PIL.Image.open(path, formats=["PNG"]) as opened:
        width, height = opened.size
        if side_px and width % side_px == 0 and height % side_px == 0:
            columns, rows = overview_size(width // side_px, height // side_px, side_px, side_px)
            picture = opened.convert("RGB").crop((0, 0, columns * side_px, rows * side_px))
            tile_px = min(side_px, TILE_PX)
            picture = picture.resize((columns * tile_px, rows * tile_px), PIL.Image.Resampling.BOX)
        else:
            picture = opened.convert("RGB")
            picture.thumbnail(OVERVIEW_PX)
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=WEBP_QUALITY)
    return buffer.getvalue()
