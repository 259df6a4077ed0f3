"""Generate images with a trained network: ``python generate.py --help``."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from dnnlib.progress import progress_bar
from dnnlib.util import UserError
from torch_utils.device import choose_device
from training.data.grid import save_image_grid, write_png
from training.inference import options as options
from training.inference.sampling import (
    check_grid,
    check_truncation,
    in_batches,
    load_generator,
    load_projected_w,
    map_seeds,
    synthesize,
)


class GridSize(click.ParamType):
    """``COLUMNSxROWS``, or ``auto`` for an approximately square grid."""

    name = "COLUMNSxROWS|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return (columns, rows); (0, 0) for ``auto``."""
        columns, _, rows = str(value).partition("x")
        if value == "auto":
            return 0, 0
        if not all(re.fullmatch("[1-9][0-9]{0,8}", side) for side in (columns, rows)):
            self.fail(f"{str(value)[:100]!a}: give COLUMNSxROWS, such as 6x4, or auto", param, ctx)
        return int(columns), int(rows)


@click.command()
@options.network_option
@options.outdir_option
@click.option("--seeds", type=options.SEEDS, metavar="LIST", help="Random seeds, such as 0-35 or 1,2,3.")
@options.trunc_option
@options.class_option
@options.noise_mode_option
@click.option(
    "--projected-w",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Generate images from the w in a file of projector.py, not from seeds.",
)
@click.option(
    "--grid",
    type=GridSize(),
    is_flag=False,
    flag_value="auto",
    metavar="[COLUMNSxROWS|auto]",
    help="Also write all images as grid.png; auto is approximately square.",
)
@options.batch_option
@options.device_option
@options.trust_option
@options.errors_in_one_line()
def generate_images(
    network: str,
    outdir: Path,
    seeds: list[int] | None,
    trunc: float,
    class_idx: int | None,
    noise_mode: str,
    projected_w: Path | None,
    grid: tuple[int, int] | None,
    batch: int,
    device: str,
    trust_pickle: bool,
) -> None:
    """Generate images with a trained network.

    \b
    Examples:
      python generate.py --outdir=out --network=snapshot.pkl --seeds=0-35 --trunc=0.7
      python generate.py --outdir=out --network=snapshot.pkl --seeds=0-35 --class=1 --grid=9x4
      python generate.py --outdir=out --network=snapshot.pkl --projected-w=out/projected_w.npz

    Writes seedNNNN.png for each seed, or projNN.png for each projected w. With --batch=1 the pixels of a seed do not
    depend on the other seeds; larger batches are faster and may change the last bit.
    """  # noqa: D301 -- in a raw string click would not see its mark
    if projected_w is None and not seeds:
        raise click.UsageError("give --seeds or --projected-w")
    where = choose_device(device)
    G = load_generator(network, where, trust_pickle)
    to_ws: Callable[[Sequence[int]], torch.Tensor]
    if projected_w is None:
        check_truncation(G, trunc)
        label = options.choose_label(G, class_idx, where)
        to_ws = functools.partial(map_seeds, G, label=label, truncation_psi=trunc)
        numbers, name = seeds or [], "seed{:04d}.png"
    else:
        if seeds or class_idx is not None or trunc != 1:
            options.warn("--seeds, --class and --trunc have no effect on --projected-w")
        projected = load_projected_w(projected_w, G, where)
        to_ws = projected.__getitem__
        numbers, name = list(range(len(projected))), "proj{:02d}.png"
    grid_size = None if grid is None else fit_grid(grid, len(numbers), G.img_resolution)

    outdir.mkdir(parents=True, exist_ok=True)
    images = (
        image
        for part in in_batches(numbers, batch)
        for image in synthesize(G, to_ws(part), noise_mode, noise_seeds=part)
    )
    kept = []
    with progress_bar("images", len(numbers), unit="img") as progress:
        for number, image in zip(numbers, images, strict=True):
            write_png(image, outdir / name.format(number))
            if grid_size is not None:
                kept.append(image)
            progress.update()
    if grid_size is not None:
        save_grid(kept, outdir / "grid.png", grid_size)
    report(outdir, [name.format(number) for number in numbers], grid_size is not None)
    if projected_w is None and len(numbers) > 1:
        arguments = [f"--rows={numbers[0]}", f"--cols={numbers[-1]}"] + ([f"--class={class_idx}"] if G.c_dim else [])
        options.suggest("style_mixing.py", network, outdir, *arguments)


def report(outdir: Path, names: list[str], with_grid: bool) -> None:
    """Print which files were written."""
    files = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    images = "1 image" if len(names) == 1 else f"{len(names)} images"
    click.echo(f"Wrote {images} to {outdir}: {files}{' and grid.png' if with_grid else ''}")


def fit_grid(size: tuple[int, int], num: int, resolution_px: int) -> tuple[int, int]:
    """Return (columns, rows) for ``num`` images; ``size`` (0, 0) asks for an approximately square grid.

    Raises:
        UserError: The images do not fit in the grid, or the grid is too large.
    """
    columns, rows = size
    if size == (0, 0):
        columns = math.ceil(math.sqrt(num))
        rows = math.ceil(num / columns)
    if columns * rows < num:
        raise UserError(f"--grid={columns}x{rows}: {num} images do not fit in {columns * rows} cells")
    check_grid(columns, rows, resolution_px)
    return columns, rows


def save_grid(images: list[np.ndarray], path: Path, size: tuple[int, int]) -> None:
    """Write images ``[H, W, C]`` row by row as one PNG; unused cells stay black."""
    cells = np.zeros([size[0] * size[1], *images[0].shape], np.uint8)
    cells[: len(images)] = images
    save_image_grid(cells.transpose(0, 3, 1, 2), path, drange=(0, 255), grid_size=size)


if __name__ == "__main__":
    generate_images()
