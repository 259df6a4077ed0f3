"""Edit generated images along directions in W, and find them: ``python edit.py --help``."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
import torch

from dnnlib.click_command import Command
from dnnlib.click_types import FiniteRange, NumberList
from dnnlib.commands import how_to_run
from dnnlib.errors import UserError
from dnnlib.flags import refuse
from dnnlib.progress import progress_bar
from torch_utils.device import choose_device
from training.data.grid import write_png
from training.data.names import shown
from training.inference import directions as finding
from training.inference import options
from training.inference.centers import k_means
from training.inference.direction_images import write_direction_images
from training.inference.editor import MAX_SLIDERS, Editor, EditorServer, is_loopback
from training.inference.grid_size import check_grid, fit_grid
from training.inference.latents import Latents, ProjectedLatents, flags_for_next, seed_latents
from training.inference.loading import load_generator
from training.inference.projected_w import load_projected_w
from training.inference.sampling import sample_w
from training.inference.stored import StoredVectors, check_class, load_vectors, save_vectors, stored_layers
from training.inference.video_frames import draw_frames

DIRECTIONS_FILE = "directions.safetensors"
CENTERS_FILE = "centers.safetensors"
MAX_SAMPLES = 1_000_000

sample_seed_option = options.seed_option(name="--sample-seed", help="Random seed of the samples.")


def samples_option(default: int, minimum: int) -> options.Option:
    """Return ``--samples``."""
    return click.option(
        "--samples",
        type=click.IntRange(minimum, MAX_SAMPLES),
        metavar="INT",
        default=default,
        show_default=True,
        help="Number of samples of w.",
    )


@click.group()
def edit() -> None:
    """Find directions and centers in the latent space W of a network, and edit images with them."""


@edit.command(cls=Command)
@options.network_option
@options.outdir_option
@click.option(
    "--method",
    type=click.Choice(["sefa", "ganspace"]),
    default="sefa",
    show_default=True,
    help="From the weights of the network (SeFa), or from the variation of w (GANSpace).",
)
@click.option(
    "--num", type=click.IntRange(1, 999), metavar="INT", default=5, show_default=True, help="Number of directions."
)
@click.option(
    "--layers",
    type=NumberList(largest=999),
    metavar="LIST",
    help="Layers that they change; low ones change the shape, high ones the color.  [default: all]",
)
@click.option(
    "--seeds", type=options.SEEDS, metavar="LIST", default="0-3", show_default=True, help="Seeds of the images shown."
)
@click.option(
    "--projected-w",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Show the images of the w in a file of projector.py, not of seeds.",
)
@click.option(
    "--strength",
    type=FiniteRange(0, 100, min_open=True),
    metavar="FLOAT",
    default=3,
    show_default=True,
    help="Largest change shown, in standard deviations of w along the direction.",
)
@click.option(
    "--steps", type=click.IntRange(2, 999), metavar="INT", default=7, show_default=True, help="Images per row."
)
@samples_option(default=10_000, minimum=2)
@sample_seed_option
@options.trunc_option
@options.class_option
@options.noise_mode_option
@options.batch_option()
@options.device_option
@options.trust_option
@options.errors_in_one_line()
def directions(
    network: str,
    outdir: Path,
    method: str,
    num: int,
    layers: list[int] | None,
    seeds: list[int],
    projected_w: Path | None,
    strength: float,
    steps: int,
    samples: int,
    sample_seed: int,
    trunc: float,
    class_idx: int | None,
    noise_mode: str,
    batch: int,
    device_name: str,
    trust_pickle: bool,
) -> None:
    """Find directions and show what they change.

    \b
    Examples:
      python edit.py directions --outdir=out --network=snapshot.pkl --layers=0-3
      python edit.py directions --outdir=out --network=snapshot.pkl --method=ganspace --seeds=0-7

    Writes directions.safetensors, and directionNN.png for each: a row per seed, from -strength to +strength.
    """  # noqa: D301 -- in a raw string click would not see its mark
    if projected_w is not None:
        refuse("has no effect on --projected-w", "seeds", "trunc")
    seeds = options.once("--seeds", seeds)
    device = choose_device(device_name)
    G = load_generator(network, device, trust_pickle)
    of_seeds = seed_latents(G, seeds, trunc, class_idx, device)
    latents: Latents = of_seeds
    if projected_w is not None:
        latents = ProjectedLatents(load_projected_w(projected_w, G, device))
    chosen = finding.layers_in(layers, G.num_ws)
    check_grid(steps, len(latents.numbers), G.img_resolution)
    with progress_bar("samples of w", None):
        w = sample_w(G, of_seeds.label, samples, sample_seed)
    found = (finding.sefa(G, chosen) if method == "sefa" else finding.ganspace(w))[:num]
    if len(found) < num:
        options.warn(f"--num={num}: there are only {len(found)} directions, as many as w has numbers")
    settings = {"method": method, "layers": chosen, "class": class_idx, "samples": samples, "sample_seed": sample_seed}
    stored = StoredVectors("directions", found.float(), finding.deviations(w, found).float(), settings)
    outdir.mkdir(parents=True, exist_ok=True)
    save_vectors(outdir / DIRECTIONS_FILE, stored, G)

    strengths = finding.strengths(strength, steps)
    write_direction_images(outdir, G, latents, stored, chosen, strengths, trunc, batch, noise_mode)
    pictures = "direction00.png" + (f" to direction{len(found) - 1:02d}.png" if len(found) > 1 else "")
    click.echo(f"Wrote {DIRECTIONS_FILE} and {pictures} to {outdir}")
    serving = ["serve", f"--network={network}", f"--directions={outdir / DIRECTIONS_FILE}"]
    serving += flags_for_next(G, class_idx, trust_pickle)
    click.echo(f"Next: {how_to_run('edit.py')} {shlex.join(serving)}")


@edit.command(cls=Command)
@options.network_option
@options.outdir_option
@click.option(
    "--num", type=click.IntRange(1, 4096), metavar="INT", default=64, show_default=True, help="Number of centers."
)
@samples_option(default=60_000, minimum=1)
@sample_seed_option
@options.class_option
@options.batch_option()
@options.device_option
@options.trust_option
@options.errors_in_one_line()
def centers(
    network: str,
    outdir: Path,
    num: int,
    samples: int,
    sample_seed: int,
    class_idx: int | None,
    batch: int,
    device_name: str,
    trust_pickle: bool,
) -> None:
    """Find centers of w by k-means, for truncation of varied images.

    \b
    Example:
      python edit.py centers --outdir=out --network=snapshot.pkl --num=16
      python generate.py --outdir=out --network=snapshot.pkl --seeds=0-35 --trunc=0.5 --centers=out/centers.safetensors

    Writes centers.safetensors and centers.png, the images of the centers, those with the most samples first.
    """  # noqa: D301 -- in a raw string click would not see its mark
    if num > samples:
        raise UserError(f"--num={num}: there are only {samples} samples; raise --samples")
    device = choose_device(device_name)
    G = load_generator(network, device, trust_pickle)
    label = options.choose_label(G, class_idx, device)
    columns, _rows = fit_grid("auto", num, G.img_resolution)
    with progress_bar("k-means", None):
        found = k_means(sample_w(G, label, samples, sample_seed), num, sample_seed)
    settings = {"method": "k-means", "class": class_idx, "samples": samples, "sample_seed": sample_seed}
    outdir.mkdir(parents=True, exist_ok=True)
    save_vectors(outdir / CENTERS_FILE, StoredVectors("centers", found, torch.ones(num), settings), G)
    with progress_bar("images", None):
        ws = found.to(device)[:, None].repeat(1, G.num_ws, 1)
        [picture] = draw_frames(G, [[w] for w in ws], columns, batch)
    write_png(picture, outdir / "centers.png")
    click.echo(f"Wrote {CENTERS_FILE} and centers.png to {outdir}")
    arguments = ["--seeds=0-35", "--trunc=0.5", f"--centers={outdir / CENTERS_FILE}"]
    options.suggest(
        "generate.py", network, outdir / "truncated", *arguments, *flags_for_next(G, class_idx, trust_pickle)
    )


@edit.command(cls=Command)
@options.network_option
@click.option(
    "--directions",
    "directions_file",
    required=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of: edit.py directions.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen at; any other than the default lets other machines draw images.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="INT", default=8000, show_default=True, help="Port; 0 for any."
)
@options.class_option
@options.device_option
@options.trust_option
@options.errors_in_one_line()
def serve(
    network: str,
    directions_file: Path,
    host: str,
    port: int,
    class_idx: int | None,
    device_name: str,
    trust_pickle: bool,
) -> None:
    """Serve a page with a slider for each direction.

    Only browsers on this machine can open it, unless --host lets others in.

    \b
    Example:
      python edit.py serve --network=snapshot.pkl --directions=out/directions.safetensors
    """  # noqa: D301 -- in a raw string click would not see its mark
    if not host:
        raise UserError("--host= names no address; 127.0.0.1 is this machine, 0.0.0.0 lets all others in")
    device = choose_device(device_name)
    G = load_generator(network, device, trust_pickle)
    label = options.choose_label(G, class_idx, device)
    stored = load_vectors(directions_file, "directions", G)
    check_class(stored, directions_file, G, class_idx)
    if len(stored.vectors) > MAX_SLIDERS:
        options.warn(f"the page has sliders for the first {MAX_SLIDERS} of {len(stored.vectors)} directions")
    editor = Editor(G, stored, stored_layers(stored, directions_file, G), label)
    try:
        server = EditorServer(editor, host, port)
    except (OSError, TypeError, UnicodeError) as error:  # the last two: names such as a..b with a non-ASCII letter
        raise UserError(f"--host={shown(host)} --port={port}: {getattr(error, 'strerror', None) or error}") from error
    if not is_loopback(host):
        options.warn("other machines in the network can reach this page; it asks for no password")
    with server:
        click.echo(f"Serving {server.url} until Ctrl-C")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("Stopped")


if __name__ == "__main__":
    edit()
