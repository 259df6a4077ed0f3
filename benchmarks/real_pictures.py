"""Real pictures with many objects from files that packages carry, so that evidence needs no registration and no link.

``street --video=vtest.avi --dest=street`` cuts tiles out of a video of a street taken by one fixed camera (Debian's
``opencv-doc``), ``aerial --wheel=deepforest-2.1.0-py3-none-any.whl --dest=aerial`` out of aerial photographs of a wood
(PyPI's ``deepforest``). Both write PNG files for ``dataset_tool.py``.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import PIL.Image

from training.data.grid import write_png

FRAME_DISTANCE = 5
"""Half a second: neighbouring frames hardly differ."""
STREET_TILE_PX, STREET_STRIDE_PX = 192, 96
MOVED_LEVELS, MOVED_SHARE = 25, 0.02
"""A tile shows something if so many of its pixels differ by so many grey levels from the median of all frames."""
TRAIN_SHARE = 0.8
"""The first part of the video is for training, the rest is held out."""

PHOTOGRAPHS = ("2019_YELL_2_528000_4978000_image_crop2.png", "2019_YELL_2_541000_4977000_image_crop.png")
AERIAL_TILE_PX, AERIAL_STRIDE_PX = 128, 64
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def tiles(image: np.ndarray, side_px: int, stride_px: int) -> Iterator[tuple[slice, slice]]:
    """Yield the places of all square tiles of an image ``[H, W, ...]``, row by row."""
    for y in range(0, image.shape[0] - side_px + 1, stride_px):
        for x in range(0, image.shape[1] - side_px + 1, stride_px):
            yield slice(y, y + side_px), slice(x, x + side_px)


def moved(frame: np.ndarray, background: np.ndarray) -> bool:
    """Tell whether a tile ``[H, W, 3]``, uint8, shows something that does not stand still."""
    difference = np.abs(frame.astype(np.int16) - background).max(axis=2)
    return float((difference > MOVED_LEVELS).mean()) > MOVED_SHARE


def street_tiles(frames: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and pixels of each tile in which something moves, of frames ``[N, H, W, 3]``, uint8."""
    background = np.median(frames, axis=0).astype(np.int16)
    num_train = round(TRAIN_SHARE * len(frames))
    for number, frame in enumerate(frames):
        part = "train" if number < num_train else "held-out"
        for place, (rows, columns) in enumerate(tiles(frame, STREET_TILE_PX, STREET_STRIDE_PX)):
            if moved(frame[rows, columns], background[rows, columns]):
                yield f"{part}/frame{number:03d}-{place:02d}.png", frame[rows, columns]


def write_all(images: Iterator[tuple[str, np.ndarray]], dest: Path) -> int:
    """Write images as PNG files below a folder; returns how many.

    Raises:
        click.ClickException: There are none.
    """
    num = 0
    for name, pixels in images:
        (dest / name).parent.mkdir(parents=True, exist_ok=True)
        write_png(pixels, dest / name)
        num += 1
    if num == 0:
        raise click.ClickException("there are no tiles: the pictures are too small, or nothing moves in them")
    return num


def first_line(error: Exception) -> str:
    """Return what an error says, without the log of a decoder below it."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


@click.group()
def main() -> None:
    """Prepare real pictures for an evidence run."""


@main.command()
@click.option("--video", type=FILE, required=True, help="vtest.avi of opencv-doc.")
@click.option("--dest", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the tiles.")
def street(video: Path, dest: Path) -> None:
    """Cut the tiles of a street video in which something moves: DEST/train and DEST/held-out, by time."""
    import imageio.v3

    try:
        every = imageio.v3.imiter(video, plugin="FFMPEG")
        frames = np.stack([frame for i, frame in enumerate(every) if i % FRAME_DISTANCE == 0])
    except (OSError, ValueError, IndexError) as error:
        raise click.ClickException(f"--video={video} cannot be read as a video: {first_line(error)}") from error
    click.echo(f"Wrote {write_all(street_tiles(frames), dest)} tiles of {len(frames)} frames to {dest}")


@main.command()
@click.option("--wheel", type=FILE, required=True, help="Of deepforest 2.1.0.")
@click.option("--dest", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the tiles.")
def aerial(wheel: Path, dest: Path) -> None:
    """Cut the tiles of two aerial photographs of a wood."""

    def cut() -> Iterator[tuple[str, np.ndarray]]:
        with zipfile.ZipFile(wheel) as archive:
            for number, name in enumerate(PHOTOGRAPHS):
                with PIL.Image.open(io.BytesIO(archive.read(f"deepforest/data/{name}"))) as image:
                    pixels = np.asarray(image.convert("RGB"))
                for place, (rows, columns) in enumerate(tiles(pixels, AERIAL_TILE_PX, AERIAL_STRIDE_PX)):
                    yield f"photograph{number}-{place:04d}.png", pixels[rows, columns]

    try:
        num = write_all(cut(), dest)
    except (zipfile.BadZipFile, KeyError, PIL.UnidentifiedImageError) as error:
        raise click.ClickException(f"--wheel={wheel} is not the wheel of deepforest 2.1.0: {error}") from error
    click.echo(f"Wrote {num} tiles to {dest}")


if __name__ == "__main__":
    main()
