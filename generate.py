"""Draw images with a trained generator: ``python generate.py --help``."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from tqdm import tqdm

from dnnlib.util import UserError
from torch_utils.device import choose_device
from training.data.grid import save_image_grid, write_png
from training.inference import options as options
from training.inference.sampling import in_batches, load_generator, load_projected_w, map_seeds, synthesize


class GridSize(click.ParamType):
    """``COLUMNSxROWS``, or ``auto`` for about as many columns as rows."""

    name = "COLUMNSxROWS|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return (columns, rows); (0, 0) for ``auto``."""
        columns, _, rows = str(value).partition("x")
        if value == "auto":
            return 0, 0
        if not (columns.isdecimal() and rows.isdecimal() and int(columns) * int(rows) > 0):
            self.fail(f"{value!r}: give COLUMNSxROWS, such as 6x4, or auto", param, ctx)
        return int(columns), int(rows)


@click.command()
@options.network_option
@options.outdir_option
@click.option("--seeds", type=options.SEEDS, metavar="LIST", help="Seeds of the images: 0-35 or 1,2,3.")
@options.trunc_option
@options.class_option
@options.noise_mode_option
@click.option(
    "--projected-w",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Draw the w in this file of projector.py, not seeds.",
)
@click.option(
    "--grid",
    type=GridSize(),
    is_flag=False,
    flag_value="auto",
    metavar="[COLUMNSxROWS|auto]",
    help="Write grid.png too; auto is about square.",
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
    """Draw images with a trained generator.

    \b
    Examples:
      python generate.py --outdir=out --network=snapshot.pkl --seeds=0-35 --trunc=0.7
      python generate.py --outdir=out --network=snapshot.pkl --seeds=0-35 --class=1 --grid=9x4
      python generate.py --outdir=out --network=snapshot.pkl --projected-w=out/projected_w.npz

    Writes seedNNNN.png for each seed, or projNN.png for each projected w. With one image at a time (--batch=1) a seed
    gives the same pixels whatever the others are; larger batches are faster and may differ in the last bit.
    """  # noqa: D301 -- in a raw string click would not see its mark
    if projected_w is None and not seeds:
        raise click.UsageError("give --seeds or --projected-w")
    where = choose_device(device)
    G = load_generator(network, where, trust_pickle)
    to_ws: Callable[[Sequence[int]], torch.Tensor]
    if projected_w is None:
        label = options.choose_label(G, class_idx, where)
        to_ws = functools.partial(map_seeds, G, label=label, truncation_psi=trunc)
        numbers, name = seeds or [], "seed{:04d}.png"
    else:
        if seeds or class_idx is not None or trunc != 1:
            options.warn("--seeds, --class and --trunc have no effect on --projected-w")
        projected = load_projected_w(projected_w, G, where)
        to_ws = projected.__getitem__
        numbers, name = list(range(len(projected))), "proj{:02d}.png"
    grid_size = None if grid is None else fit_grid(grid, len(numbers))

    outdir.mkdir(parents=True, exist_ok=True)
    images = (
        image
        for part in in_batches(numbers, batch)
        for image in synthesize(G, to_ws(part), noise_mode, noise_seeds=part)
    )
    kept = []
    for number, image in zip(numbers, tqdm(images, total=len(numbers), unit="img", disable=None), strict=True):
        write_png(image, outdir / name.format(number))
        if grid_size is not None:
            kept.append(image)
    if grid_size is not None:
        save_grid(kept, outdir / "grid.png", grid_size)


def fit_grid(size: tuple[int, int], num: int) -> tuple[int, int]:
    """(columns, rows) for so many images.

    Raises:
        UserError: They do not fit.
    """
    columns, rows = size
    if size == (0, 0):
        columns = math.ceil(math.sqrt(num))
        return columns, math.ceil(num / columns)
    if columns * rows < num:
        raise UserError(f"--grid={columns}x{rows}: {num} images do not fit in {columns * rows} places")
    return size


def save_grid(images: list[np.ndarray], path: Path, size: tuple[int, int]) -> None:
    """Write images ``[H, W, C]`` row by row as one PNG; places that are left stay black."""
    cells = np.zeros([size[0] * size[1], *images[0].shape], np.uint8)
    cells[: len(images)] = images
    save_image_grid(cells.transpose(0, 3, 1, 2), path, drange=(0, 255), grid_size=size)


if __name__ == "__main__":
    generate_images()
