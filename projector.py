"""Find the w whose image resembles a given one most: ``python projector.py --help``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from dnnlib.click_command import Command
from dnnlib.click_types import FiniteRange
from dnnlib.errors import UserError
from dnnlib.flags import about, refuse
from dnnlib.formatting import plural
from dnnlib.outputs import keep_inputs
from metrics.detectors import EFFLITE1, VGG16
from torch_utils.device import choose_device
from training.data.names import first_few
from training.data.video import why_webp
from training.inference import options
from training.inference.crop import Crop, CropType
from training.inference.distances import distance_name
from training.inference.loading import load_generator
from training.inference.projection_command import Projection, last_ws, load_features, project_targets, tune_networks
from training.inference.projection_results import W_FILE, Results
from training.inference.targets import Target, is_collection, keep_apart, read_targets
from training.inference.tuning import LEARNING_RATE, Tuning, other_networks


@click.command(cls=Command)
@options.network_option
@options.outdir_option
@click.option(
    "--target",
    required=True,
    metavar="FILE|DIR|ZIP",
    type=click.Path(exists=True, path_type=Path),
    help="Target image, or a folder or zip of them.",
)
@click.option(
    "--crop",
    type=CropType(),
    metavar="center|pad|LEFT,TOP,SIDE",
    default="center",
    show_default=True,
    help="Part of the image that is projected: the middle square, all of it with black bands, or a square in pixels.",
)
@click.option("--w-plus", is_flag=True, help="Optimize one w per layer, in the space W+: closer, but harder to edit.")
@click.option(
    "--pti",
    type=click.IntRange(min=1),
    metavar="[STEPS]",
    is_flag=False,
    flag_value=350,
    help="Then tune the network, so that it draws the targets (pivotal tuning), in this number of steps per target; "
    "default: 350.",
)
@click.option(
    "--pti-lr",
    type=FiniteRange(0, 1, min_open=True),
    metavar="FLOAT",
    default=LEARNING_RATE,
    show_default=True,
    help="Learning rate of --pti.",
)
@click.option(
    "--pti-locality",
    type=FiniteRange(0, 1e6),
    metavar="FLOAT",
    default=0,
    show_default=True,
    help="Weight of the penalty of --pti for changing other images; it doubles the time.",
)
@click.option(
    "--pti-shared",
    is_flag=True,
    help="Let --pti tune one network for all targets; default: one for each, which is closer.",
)
@options.batch_option(default=4, help="Targets at a time.")
@click.option(
    "--num-steps",
    metavar="INT",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Number of optimization steps.",
)
@options.seed_option(default=303)
@click.option(
    "--save-video",
    metavar="BOOL",
    type=bool,
    default=True,
    show_default=True,
    help="Save a video of the optimization.",
)
@options.class_option
@click.option(
    "--detector",
    default=VGG16,
    show_default=True,
    metavar=f"{VGG16}|{EFFLITE1}|FILE",
    help="Feature network that compares images.",
)
@options.detectors_option
@options.trust_detectors_option
@options.device_option
@options.trust_option
@options.errors_in_one_line()
def run_projection(
    network: str,
    outdir: Path,
    target: Path,
    crop: Crop,
    w_plus: bool,
    pti: int | None,
    pti_lr: float,
    pti_locality: float,
    pti_shared: bool,
    batch: int,
    num_steps: int,
    seed: int,
    save_video: bool,
    class_idx: int | None,
    detector: str,
    detectors: str | None,
    device_name: str,
    trust_pickle: bool,
) -> None:
    """Project images into the latent space W or W+ of a network.

    \b
    Examples:
      python projector.py --outdir=out --network=snapshot.pkl --target=photo.png
      python generate.py --outdir=out --network=snapshot.pkl --projected-w=out/projected_w.npz
      python projector.py --outdir=out --network=snapshot.pkl --target=photos --pti --pti-shared
      python generate.py --outdir=again --network=out/tuned.pkl --projected-w=out/projected_w.npz

    A target should be framed like the training images. Writes target.png, proj.png, projected_w.npz (w, [1, num_ws,
    w_dim]) and proj.mp4, or proj.webp without package imageio-ffmpeg. For a folder, the files are numbered,
    projected_w.npz holds all w, and the results of each batch are written when it is done. With --pti, tuned.pkl is the
    tuned network and tuned.png what it draws, numbered likewise and each for its own target; with --pti-shared there is
    one tuned.pkl. For an exported folder, these are folders.

    An image of a folder that is damaged or too small for --crop is named and left out, and the exit status is 1 at the
    end. With a folder, --w-plus or --pti, distances.json has the distances between targets and results, and
    comparison.png shows them side by side.
    """  # noqa: D301 -- in a raw string click would not see its mark
    if pti is None:
        refuse("needs --pti", "pti_lr", "pti_locality", "pti_shared")
    keep_apart(outdir, target)
    device = choose_device(device_name)
    G = load_generator(network, device, trust_pickle)
    label = options.choose_label(G, class_idx, device)
    with about("--target"):
        targets, problems = open_targets(target, crop, G)
    features = load_features(detector, device, detectors)
    results = Results(outdir, targets, is_collection(target), features, distance_name(detector), device)
    keep_inputs(results.paths(pti is not None), target=target, network=network)
    outdir.mkdir(parents=True, exist_ok=True)
    results.write_targets()

    settings = Projection(num_steps, seed, per_layer=w_plus, batch=batch, keeps_trajectories=save_video)
    trajectories = project_targets(results, G, label, settings)
    results.names.append(W_FILE)
    networks: Sequence[Path | str] = [network]
    if pti is not None:
        ws = last_ws(trajectories, G).to(device)
        others = other_networks(network, trust_pickle, options.warn)
        tuning = Tuning(pti, pti_lr, pti_locality, batch, seed)
        networks = tune_networks(results, G, others, ws, label, tuning, pti_shared)
    if w_plus or pti is not None or is_collection(target):
        asked = {"network": network, "detector": detector, "crop": str(crop), "class": class_idx, "w_plus": w_plus}
        tuned = {"pti": pti, "pti_lr": pti_lr, "pti_locality": pti_locality, "pti_shared": pti_shared}
        results.write_summary({**asked, **tuned, "num_steps": num_steps, "seed": seed, "batch": batch})
    if save_video:
        results.write_videos(G, trajectories)
    report(results)
    suggest_drawing(networks, outdir, pti is not None, trust_pickle)
    if problems:
        num_all = plural(len(problems) + len(targets), "target")
        raise UserError(f"left out {len(problems)} of {num_all}: {first_few(problems, 3)}")


def open_targets(path: Path, crop: Crop, G: Any) -> tuple[list[Target], list[str]]:
    """Read the targets, and warn of each that is left out, before anything is computed."""
    targets, problems = read_targets(path, crop, G.img_resolution, G.img_channels)
    for problem in problems:
        options.warn(f"left out: {problem}")
    return targets, problems


def report(results: Results) -> None:
    """Print which files were written."""
    click.echo(f"Wrote {results.listing()} to {results.outdir}")
    if any(name.endswith(".webp") for name in results.names):
        click.echo(why_webp())


def suggest_drawing(networks: Sequence[Path | str], outdir: Path, is_tuned: bool, trust_pickle: bool) -> None:
    """Print the command that draws the projected w, or which of several networks draws which."""
    if len(networks) > 1:
        click.echo("Each tuned network draws the target of the same number; --pti-shared makes one for all")
        return
    again = outdir / "tuned-again" if is_tuned else outdir  # proj.png is what the untuned network draws
    trust = ["--trust-pickle"] * trust_pickle
    options.suggest("generate.py", networks[0], again, f"--projected-w={outdir / W_FILE}", *trust)


if __name__ == "__main__":
    run_projection()
