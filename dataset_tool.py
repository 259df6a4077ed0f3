"""Turn photographs into a dataset that can be trained on, or verify one: ``python dataset_tool.py --help``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from dnnlib.util import UserError
from training.data.preparation import MODES, RESIZE_FILTERS, TRANSFORMS, Preparation
from training.data.sources import ScenesSource, Source, open_source
from training.data.verification import bad_images
from training.data.writer import Report, write_dataset

SCENES = "scenes"
POSITIVE = click.IntRange(min=1)


@click.command()
@click.option("--source", required=True, metavar="PATH", help="Folder, zip or other source of images")
@click.option("--dest", metavar="PATH", help="The .zip or folder to make")
@click.option("--max-images", metavar="INT", type=POSITIVE, help="Stop after the first INT images  [default: all]")
@click.option("--width", "width_px", metavar="PX", type=POSITIVE, help="Width to resize to  [default: as it is]")
@click.option("--height", "height_px", metavar="PX", type=POSITIVE, help="Height to resize to  [default: as it is]")
@click.option("--transform", type=click.Choice(TRANSFORMS), help="What to cut out first  [default: nothing]")
@click.option(
    "--resize-filter", type=click.Choice([*RESIZE_FILTERS]), default="lanczos", show_default=True, help="How to resize"
)
@click.option("--mode", type=click.Choice(["auto", *MODES]), default="auto", show_default=True, help="Colours to make")
@click.option("--subfolders-as-labels", is_flag=True, help="Number the top-level folders and use that as the label")
@click.option("--seed", metavar="INT", type=int, default=0, show_default=True, help="Decides which scenes are drawn")
@click.option(
    "--workers", metavar="INT", type=POSITIVE, default=os.cpu_count, help="Processes  [default: one per core]"
)
@click.option(
    "--on-error", type=click.Choice(["fail", "skip"]), default="fail", show_default=True, help="On bad images"
)
@click.option("--verify", is_flag=True, help="Write nothing; decode all images of --source and list the bad ones")
def main(
    source: str,
    dest: str | None,
    max_images: int | None,
    subfolders_as_labels: bool,
    seed: int,
    workers: int,
    on_error: str,
    verify: bool,
    **preparation_kwargs: Any,
) -> None:
    """Turn photographs into a dataset that can be trained on, or verify one.

    \b
    --source is one of
      PATH/                         folder of images, or of folders of images
      PATH.zip                      the same in a zip
      PATH_lmdb/                    LSUN
      cifar-10-python.tar.gz        CIFAR-10
      train-images-idx3-ubyte.gz    MNIST, with the file of labels beside it
      scenes                        street scenes drawn on the spot, --max-images of them, --width pixels wide

    The result holds equal squares with a power-of-two side, as uncompressed PNGs, and dataset.json with their labels,
    which come from dataset.json in the source, or from its folders. The same options give the same bytes, whatever
    the number of --workers.

    --transform: 'center-crop' takes the middle square. 'center-crop-wide' takes the middle with the aspect of
    --width by --height and adds black bands up to a square; it leaves out images that are too small.

    Pixels: images are turned upright by their EXIF orientation; of an animation the first frame is taken; palettes and
    CMYK become RGB; transparent parts become white; of 16-bit values the high byte is kept; colour profiles are
    ignored. Grey images stay grey if all are grey; for a mixture choose --mode=rgb or --mode=grey.

    An image that cannot be used ends the run and nothing is written. With --on-error=skip it is left out and listed
    with the reason in DEST.skipped.jsonl.
    """  # noqa: D301 (click wants the control character)
    if verify == (dest is not None):
        raise click.UsageError("give either --dest, the .zip or folder to make, or --verify, which makes none")
    try:
        if dest is None:
            _verify(source, workers)
            return
        preparation = Preparation(**preparation_kwargs)
        images = _open_source(source, preparation.width_px, max_images, subfolders_as_labels, seed)
        report = write_dataset(images, Path(dest), preparation, on_error == "skip", workers)
        click.echo(_last_line(report, dest))
    except UserError as err:
        raise click.ClickException(str(err)) from err


def _verify(path: str, workers: int) -> None:
    num_bad = 0
    for name, fault in bad_images(path, workers):
        num_bad += 1
        click.echo(f"{name} {fault}")
    if num_bad:
        raise UserError(f"{path}: {num_bad} bad images")
    click.echo(f"{path}: all images are good")


def _open_source(
    source: str, side_px: int | None, max_images: int | None, subfolders_as_labels: bool, seed: int
) -> Source:
    if source != SCENES:
        return open_source(Path(source), max_images, subfolders_as_labels)
    if max_images is None or side_px is None or subfolders_as_labels:
        raise click.UsageError(f"--source={SCENES} needs --max-images and --width, and has no subfolders")
    return ScenesSource(max_images, side_px, seed)


def _last_line(report: Report, dest: str) -> str:
    line = f"Wrote {report.num_written} images ({report.layout}) to {dest}"
    return f"{line}; skipped {len(report.skipped)}, listed in {report.listing}" if report.skipped else line


if __name__ == "__main__":
    main()
