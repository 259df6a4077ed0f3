"""Mix the styles of generated images: ``python style_mixing.py --help``."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch

from dnnlib.click_command import Command
from dnnlib.click_types import NumberList
from dnnlib.errors import UserError
from dnnlib.formatting import plural
from dnnlib.progress import progress_bar
from torch_utils.device import choose_device
from training.data.grid import write_png
from training.inference import options
from training.inference.grid_size import check_grid
from training.inference.loading import load_generator
from training.inference.sampling import check_layers, check_truncation, in_batches, map_seeds, synthesize
from training.inference.video_frames import tile

NUM_DEFAULT_STYLES = 7


@click.command(cls=Command)
@options.network_option
@options.outdir_option
@click.option("--rows", type=options.SEEDS, required=True, metavar="LIST", help="Seeds of the images to modify.")
@click.option(
    "--cols", type=options.SEEDS, required=True, metavar="LIST", help="Seeds of the images that provide styles."
)
@click.option(
    "--styles",
    type=NumberList(largest=999),
    metavar="LIST",
    help="Layers in which to replace the style.  [default: 0-6, or all layers of a smaller network]",
)
@options.trunc_option
@options.class_option
@options.noise_mode_option
@options.batch_option()
@options.device_option
@options.trust_option
@options.errors_in_one_line()
def generate_style_mix(
    network: str,
    outdir: Path,
    rows: list[int],
    cols: list[int],
    styles: list[int] | None,
    trunc: float,
    class_idx: int | None,
    noise_mode: str,
    batch: int,
    device_name: str,
    trust_pickle: bool,
) -> None:
    """Generate each image of --rows with the styles of each image of --cols in some layers.

    \b
    Example:
      python style_mixing.py --outdir=out --network=snapshot.pkl --rows=85,100,75 --cols=55,821 --styles=0-6

    Low layers control pose and shape, high layers texture and color. Writes R-C.png for row seed R and column seed C,
    S-S.png for each seed itself, and grid.png with all of them.
    """  # noqa: D301 -- in a raw string click would not see its mark
    rows, cols = options.once("--rows", rows), options.once("--cols", cols)
    device = choose_device(device_name)
    G = load_generator(network, device, trust_pickle)
    check_truncation(G, trunc)
    label = options.choose_label(G, class_idx, device)
    styles = check_styles(styles, G.num_ws)
    check_grid(len(cols) + 1, len(rows) + 1, G.img_resolution)
    seeds = sorted({*rows, *cols})
    ws = dict(zip(seeds, map_seeds(G, seeds, label, trunc), strict=True))
    pairs = list(dict.fromkeys([*((seed, seed) for seed in seeds), *((row, col) for row in rows for col in cols)]))

    outdir.mkdir(parents=True, exist_ok=True)
    images: dict[tuple[int, int], np.ndarray] = {}
    with progress_bar("images", len(pairs), unit="img") as progress:
        for part in in_batches(pairs, batch):
            mixed = torch.stack([mix_styles(ws[row], ws[col], styles) for row, col in part])
            noise_seeds = [row for row, _ in part]
            for (row, col), image in zip(part, synthesize(G, mixed, noise_mode, noise_seeds), strict=True):
                write_png(image, outdir / f"{row}-{col}.png")
                images[row, col] = image
            progress.update(len(part))
    save_mix_grid(images, rows, cols, outdir / "grid.png")
    click.echo(f"Wrote {plural(len(images), 'image')} to {outdir}, and all together as {outdir / 'grid.png'}")
    click.echo(f"Next: other layers, {other_layers(G.num_ws)}; low layers change the shape, high layers the color")


def check_styles(styles: list[int] | None, num_ws: int) -> list[int]:
    """Return the layers to mix: the given ones, or the default.

    Raises:
        UserError: The network has no such layer, or only one for everything, as that of FastGAN.
    """
    if num_ws < 2:
        raise UserError("this network takes the same w in all layers, so that there are no styles to mix")
    if styles is None:
        return list(range(min(NUM_DEFAULT_STYLES, num_ws)))
    check_layers("--styles", styles, num_ws)
    return styles


def other_layers(num_ws: int) -> str:
    """Return ``--styles`` for the lower and the upper half of the layers, for a message."""
    middle = num_ws // 2
    return f"--styles=0-{middle - 1} or --styles={middle}-{num_ws - 1} of the {num_ws} here"


def mix_styles(row_w: torch.Tensor, col_w: torch.Tensor, styles: list[int]) -> torch.Tensor:
    """Copy ``row_w`` [num_ws, w_dim] with the layers ``styles`` of ``col_w``."""
    mixed = row_w.clone()
    mixed[styles] = col_w[styles]
    return mixed


def save_mix_grid(images: dict[tuple[int, int], np.ndarray], rows: list[int], cols: list[int], path: Path) -> None:
    """Write all mixed images as one PNG, below the images of ``cols`` and to the right of those of ``rows``."""
    corner = np.zeros_like(next(iter(images.values())))
    cells = [corner, *(images[col, col] for col in cols)]
    for row in rows:
        cells += [images[row, row], *(images[row, col] for col in cols)]
    write_png(tile(cells, len(cols) + 1), path)


if __name__ == "__main__":
    generate_style_mix()
