"""Convert photographs to a dataset for training, or verify a dataset: ``python dataset_tool.py --help``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from dnnlib.click_command import Command
from dnnlib.console import errors_in_one_line
from dnnlib.errors import UserError
from dnnlib.flags import about, refuse
from dnnlib.heartbeat import heartbeat
from training.data.container import check_dest
from training.data.preparation import MAX_BITS, MODES, RESIZE_FILTERS, TRANSFORMS, Preparation
from training.data.sources import Source, open_source, scenes_source
from training.data.summary import summary
from training.data.verification import verify as verify_images
from training.data.writer import write_dataset

SCENES = "scenes"
POSITIVE = click.IntRange(min=1)


@click.command(cls=Command)
@click.option(
    "--source", required=True, metavar="PATH", type=click.Path(), help="Folder, zip or other source of images"
)
@click.option("--dest", metavar="PATH", type=click.Path(), help="The .zip or folder to create")
@click.option("--max-images", metavar="INT", type=POSITIVE, help="Maximum number of images  [default: all]")
@click.option("--width", "width_px", metavar="PX", type=POSITIVE, help="Width of the result  [default: unchanged]")
@click.option("--height", "height_px", metavar="PX", type=POSITIVE, help="Height of the result  [default: unchanged]")
@click.option("--transform", type=click.Choice(TRANSFORMS), help="Crop or pad before resizing  [default: neither]")
@click.option(
    "--resize-filter", type=click.Choice([*RESIZE_FILTERS]), default="lanczos", show_default=True, help="Resize filter"
)
@click.option("--mode", type=click.Choice(["auto", *MODES]), default="auto", show_default=True, help="Color mode")
@click.option(
    "--bits",
    metavar="INT",
    type=click.IntRange(8, MAX_BITS),
    default=MAX_BITS,
    show_default=True,
    help="Number of bits that 16-bit grey images use",
)
@click.option("--subfolders-as-labels", is_flag=True, help="Use the top-level folders as classes")
@click.option("--seed", metavar="INT", type=int, default=0, show_default=True, help="Random seed of the scenes")
@click.option(
    "--workers",
    metavar="INT",
    type=POSITIVE,
    default=os.cpu_count,
    help="Number of processes  [default: number of CPU cores]",
)
@click.option(
    "--on-error",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="What to do with images that cannot be used",
)
@click.option("--verify", is_flag=True, help="Decode all images of --source and list the bad ones; write nothing")
@errors_in_one_line()
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
    """Convert photographs to a dataset for training, or verify a dataset.

    \b
    --source is one of
      PATH/                         folder of images, or of folders of images
      PATH.zip                      the same in a zip
      PATH_lmdb/                    LSUN
      cifar-10-python.tar.gz        CIFAR-10
      train-images-idx3-ubyte.gz    MNIST, with the label file beside it
      scenes                        generated street scenes: --max-images of them, --width pixels wide

    The dataset contains square images of one size, a power of two, as uncompressed PNG files; dataset.json with their
    labels, which come from dataset.json in the source or from its folders; and sources.jsonl, which maps each image to
    its source file. The same options produce the same bytes for any number of --workers. If you have a folder that is
    named scenes, write --source=./scenes.

    --transform=center-crop crops to the middle square. --transform=center-crop-wide crops to the aspect ratio of
    --width to --height and adds black bands to make a square; images that are too small are left out.
    --transform=pad keeps the whole image and adds black bands to make a square. Without --transform, images are
    stretched.

    Images are rotated as their EXIF orientation says. Only the first frame of an animation is used. Palette and CMYK
    images become RGB, transparent parts become white, and color profiles are ignored. Grey images stay grey if all
    are grey; otherwise choose --mode=rgb or --mode=grey. For 16-bit values, the upper 8 bits are kept, or, with
    --bits=12, the upper 8 of the lower 12; PGM files say by themselves which they use. Images may have up to 256
    megapixels; those of more than 64 are converted one at a time and take 2 GiB of memory or more.

    An image that cannot be used ends the run, and nothing is written. With --on-error=skip it is left out and listed
    in DEST.skipped.jsonl, with the reason. If more images than are kept would need another size or mode, the run ends
    all the same.
    """  # noqa: D301 (click wants the control character)
    if verify == (dest is not None):
        raise click.UsageError("give either --dest, the .zip or folder to create, or --verify, which creates none")
    if verify:
        refuse(
            "has no effect with --verify", "max_images", "subfolders_as_labels", "seed", "on_error", *preparation_kwargs
        )
    if source != SCENES:
        refuse(f"has no effect without --source={SCENES}", "seed")
    try:
        if dest is None:
            num_images = verify_images(source, workers, click.echo)
            click.echo(f"{source}: all images are good ({num_images})")
            return
        preparation = Preparation(**preparation_kwargs)
        check_dest(Path(dest), None if source == SCENES else Path(source))
        with heartbeat(lambda: f"Still reading {source} ..."):
            images = _open_source(source, preparation.width_px, max_images, subfolders_as_labels, seed)
        report = write_dataset(images, Path(dest), preparation, on_error == "skip", workers)
        click.echo("\n".join(summary(report, Path(dest), preparation.bits)))
    except MemoryError as err:
        raise UserError("out of memory: use fewer --workers, or a smaller --width and --height") from err


def _open_source(
    source: str, side_px: int | None, max_images: int | None, subfolders_as_labels: bool, seed: int
) -> Source:
    if source != SCENES:
        with about("--source"):
            return open_source(Path(source), max_images, subfolders_as_labels)
    if Path(SCENES).exists():
        raise UserError(
            f"--source={SCENES} draws street scenes, but there is a file or folder of that name: to convert it write "
            f"--source=./{SCENES}; to draw, rename it"
        )
    if max_images is None or side_px is None or subfolders_as_labels:
        raise click.UsageError(f"--source={SCENES} needs --max-images and --width, and has no subfolders")
    return scenes_source(max_images, side_px, seed)


if __name__ == "__main__":
    main()
