"""Mix the styles of generated images: ``python style_mixing.py --help``."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch
from tqdm import tqdm

from dnnlib.util import UserError
from torch_utils.device import choose_device
from training.data.grid import save_image_grid, write_png
from training.inference import options as options
from training.inference.sampling import in_batches, load_generator, map_seeds, synthesize

NUM_DEFAULT_STYLES = 7


@click.command()
@options.network_option
@options.outdir_option
@click.option("--rows", type=options.SEEDS, required=True, metavar="LIST", help="Seeds whose images are changed.")
@click.option("--cols", type=options.SEEDS, required=True, metavar="LIST", help="Seeds that styles are taken from.")
@click.option(
    "--styles",
    type=options.NumberList(largest=999),
    metavar="LIST",
    help="Layers whose styles are taken.  [default: 0-6, as far as there are so many]",
)
@options.trunc_option
@options.class_option
@options.noise_mode_option
@options.batch_option
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
    device: str,
    trust_pickle: bool,
) -> None:
    """Draw each image of --rows with the styles of each image of --cols in some layers.

    \b
    Example:
      python style_mixing.py --outdir=out --network=snapshot.pkl --rows=85,100,75 --cols=55,821 --styles=0-6

    Low layers decide on pose and shape, high ones on texture and colour. Writes R-C.png for row seed R and column seed
    C, S-S.png for each seed itself, and grid.png with all of them.
    """  # noqa: D301 -- in a raw string click would not see its mark
    where = choose_device(device)
    G = load_generator(network, where, trust_pickle)
    label = options.choose_label(G, class_idx, where)
    styles = check_styles(styles, G.num_ws)
    seeds = sorted({*rows, *cols})
    ws = dict(zip(seeds, map_seeds(G, seeds, label, trunc), strict=True))
    pairs = list(dict.fromkeys([*((seed, seed) for seed in seeds), *((row, col) for row in rows for col in cols)]))

    outdir.mkdir(parents=True, exist_ok=True)
    images: dict[tuple[int, int], np.ndarray] = {}
    with tqdm(total=len(pairs), unit="img", disable=None) as progress:
        for part in in_batches(pairs, batch):
            mixed = torch.stack([mix_styles(ws[row], ws[col], styles) for row, col in part])
            noise_seeds = [row for row, _ in part]
            images.update(zip(part, synthesize(G, mixed, noise_mode, noise_seeds), strict=True))
            progress.update(len(part))
    for (row, col), image in images.items():
        write_png(image, outdir / f"{row}-{col}.png")
    save_mix_grid(images, rows, cols, outdir / "grid.png")


def check_styles(styles: list[int] | None, num_ws: int) -> list[int]:
    """Layers to mix: as given, or the default.

    Raises:
        UserError: The network has not so many.
    """
    if styles is None:
        return list(range(min(NUM_DEFAULT_STYLES, num_ws)))
    if max(styles) >= num_ws:
        raise UserError(f"--styles: {max(styles)} is no layer of this network, which has 0-{num_ws - 1}")
    return styles


def mix_styles(row_w: torch.Tensor, col_w: torch.Tensor, styles: list[int]) -> torch.Tensor:
    """Copy ``row_w`` [num_ws, w_dim] with the layers ``styles`` of ``col_w``."""
    mixed = row_w.clone()
    mixed[styles] = col_w[styles]
    return mixed


def save_mix_grid(images: dict[tuple[int, int], np.ndarray], rows: list[int], cols: list[int], path: Path) -> None:
    """Write all mixtures as one PNG, below the images of ``cols`` and beside those of ``rows``."""
    corner = np.zeros_like(next(iter(images.values())))
    cells = [corner, *(images[col, col] for col in cols)]
    for row in rows:
        cells += [images[row, row], *(images[row, col] for col in cols)]
    size = (len(cols) + 1, len(rows) + 1)
    save_image_grid(np.stack(cells).transpose(0, 3, 1, 2), path, drange=(0, 255), grid_size=size)


if __name__ == "__main__":
    generate_style_mix()
