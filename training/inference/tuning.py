"""Pivotal tuning: change a generator a little, so that it draws given images from given w (arXiv:2106.05744).

The w come from a projection and stay as they are. The loss of a target is the squared error of its pixels plus its
perceptual distance (section 3.2). A penalty can keep the images of other w near those of the targets as they were
(section 3.3).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dnnlib.errors import UserError
from training.inference.projection import perceptual_features, squared_distances
from training.inference.sampling import map_z
from training.inference.targets import to_tensor
from training.run.lookup import find_network
from training.snapshots.checkpoint_networks import open_snapshot
from training.snapshots.portable import save_portable
from training.snapshots.save import save_snapshot

LEARNING_RATE = 3e-3
"""Chosen on a network of 32 px; larger networks have more weights to change and may need less."""
PIXEL_WEIGHT = 30.0
"""Weight of the squared error of pixels in [-1, 1]: after a projection, it counts about as much as the distance in
EfficientNet."""
LOCALITY_DISTANCE = 30.0
"""How far from a target's w, in a space of 512 dimensions, other images are compared; it falls with the square root of
the number of dimensions."""


@dataclass(frozen=True)
class Tuning:
    """Settings of the tuning.

    Attributes:
        num_rounds: How often each target is seen.
        learning_rate: Learning rate of Adam.
        locality: Weight of the penalty for changes of other images; 0 for none.
        batch: Targets per step.
        seed: Seed of the other images.
    """

    num_rounds: int = 350
    learning_rate: float = LEARNING_RATE
    locality: float = 0.0
    batch: int = 1
    seed: int = 303


def tune(
    G: Any,
    targets: Sequence[np.ndarray],
    ws: torch.Tensor,
    detector: torch.nn.Module,
    label: torch.Tensor,
    settings: Tuning,
) -> Iterator[float]:
    """Tune the synthesis network of ``G`` in place, step by step.

    Args:
        G: A copy of the generator, without gradients; it has none again at the end.
        targets: N images, uint8 ``[R, R, C]``.
        ws: Their w ``[N, L, w_dim]``.
        detector: Feature network with the interface of `metrics.detectors` and ``return_lpips``.
        label: Label of all images, ``[1, c_dim]``.
        settings: Settings of the tuning.

    Yields:
        The loss of each step; `num_tuning_steps` of them.

    Raises:
        UserError: The loss of a step is not finite; the message says to lower ``--pti-lr``.
    """
    original = copy.deepcopy(G) if settings.locality > 0 else None
    rng = np.random.RandomState(settings.seed)
    weights = list(G.synthesis.parameters())
    optimizer = torch.optim.Adam(weights, lr=settings.learning_rate)
    for _round in range(settings.num_rounds):
        for start in range(0, len(targets), settings.batch):
            part = slice(start, start + settings.batch)
            G.synthesis.requires_grad_(True)
            loss = _loss(G, to_tensor(targets[part], ws.device), ws[part], detector)
            if original is not None:
                other = _ws_near(G, ws[part], label, rng)
                with torch.no_grad():
                    unchanged = (original.synthesis(other, noise_mode="const") + 1) * 127.5
                loss = loss + settings.locality * _loss(G, unchanged, other, detector)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            G.synthesis.requires_grad_(False)
            if not math.isfinite(value := loss.item()):
                raise UserError(f"tuning diverged, its loss is {value}: lower --pti-lr={settings.learning_rate:g}")
            yield value


def num_tuning_steps(num_targets: int, settings: Tuning) -> int:
    """Return the number of steps of `tune`."""
    return settings.num_rounds * math.ceil(num_targets / settings.batch)


def _loss(G: Any, targets: torch.Tensor, ws: torch.Tensor, detector: torch.nn.Module) -> torch.Tensor:
    img = (G.synthesis(ws, noise_mode="const") + 1) * 127.5
    features = [perceptual_features(detector, x) for x in (img, targets)]
    pixels = ((img - targets) / 127.5).square().mean()
    return PIXEL_WEIGHT * pixels + squared_distances(*features).mean()


def _ws_near(G: Any, ws: torch.Tensor, label: torch.Tensor, rng: np.random.RandomState) -> torch.Tensor:
    """Return points on the way from each w to that of a random image, at a fixed distance from it."""
    way = map_z(G, rng.randn(len(ws), G.z_dim), label) - ws
    distance = LOCALITY_DISTANCE * math.sqrt(G.w_dim / 512)
    return ws + distance * way / way.norm(dim=2, keepdim=True).clamp(min=1e-8)


def other_networks(
    network: str, trusted: bool, warn: Callable[[str], None] = lambda text: None
) -> dict[str, Any] | None:
    """Read what `save_tuned` keeps of a network.

    Args:
        network: As `find_network` takes it: a snapshot, or an exported folder.
        trusted: Allow the snapshot to execute code.
        warn: Told why there are none although a snapshot was given.

    Returns:
        ``'D'`` and, if the snapshot has them, ``'augment_pipe'`` and ``'training_set_kwargs'``; None for a folder, or
        if they cannot be read.
    """
    network = find_network(network)
    if Path(network).is_dir():
        return None
    try:
        return open_snapshot(network, ["D", "augment_pipe", "training_set_kwargs"], trusted, verbose=False).parts
    except UserError as error:
        warn(f"the other networks of {network} cannot be read, so that only the generator is written: {error}")
        return None


def save_tuned(G: torch.nn.Module, others: dict[str, Any] | None, dest: Path) -> Path:
    """Write a tuned generator as a file of the kind of the one it came from.

    Args:
        G: The generator.
        others: The other parts of the file that it came from, from `other_networks`.
        dest: The file to write without its suffix ``.pkl``, or without others the folder.

    Returns:
        What was written.
    """
    if others is None:
        save_portable(dest, G)
        return dest
    networks = {"G": G, "D": others["D"], "G_ema": G, "augment_pipe": others.get("augment_pipe")}
    path = dest.with_name(f"{dest.name}.pkl")
    save_snapshot(path, networks, others.get("training_set_kwargs") or {})
    return path
