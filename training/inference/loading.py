"""Loading of generators, and what their files say about the training set."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from dnnlib.errors import UserError
from training.data.archive import open_archive
from training.data.codec import require_images
from training.data.labels import read_labels
from training.data.names import comparable, some
from training.run.lookup import find_network
from training.snapshots.checkpoint_networks import open_snapshot
from training.snapshots.portable import load_portable

_log = logging.getLogger(__name__)


def load_network(network: str, trusted: bool = False, verbose: bool = True) -> tuple[Any, dict[str, Any] | None]:
    """Load a generator on the CPU, and what its file says about its training set.

    The log says what was repaired in the network and what else the file contains.

    Args:
        network: Snapshot, by path or https URL; checkpoint (``training-state-*.safetensors``) in its run folder; what
            `find_network` takes; or a folder with ``model.safetensors`` and ``config.json``.
        trusted: Allow the snapshot to execute code.
        verbose: Announce a download.

    Returns:
        G_ema in eval mode, and ``training_set_kwargs``, which may name any class: None if the file does not contain it.

    Raises:
        UserError: The file is missing or cannot be read.
    """
    parts = _load_parts(network, ["G_ema", "training_set_kwargs"], trusted, verbose)
    return parts["G_ema"].eval(), parts.get("training_set_kwargs")


def pretrained_part_of_D(network: str, trusted: bool = False) -> str:
    """Return the pretrained backbone of the discriminator of a snapshot, if it has one.

    Args:
        network: The network, as for `load_network`.
        trusted: Allow the snapshot to execute code.

    Returns:
        The network and the images that it was trained on, such as ``EfficientNet-Lite0 (ImageNet)``; ``none``; or
        ``unknown``, if there is no D in the file, or one of an unknown class.
    """
    try:
        network = find_network(network)
        D = None if Path(network).is_dir() else _load_parts(network, ["D"], trusted, verbose=False)["D"]
    except UserError:
        return "unknown"
    return "unknown" if D is None else str(getattr(D, "pretrained", "none"))


def load_generator(network: str, device: torch.device, trusted: bool = False) -> Any:
    """Load a generator for inference, as `load_network` does, without gradients; nothing else in the file matters."""
    G = _load_parts(network, ["G_ema"], trusted)["G_ema"]
    return G.eval().requires_grad_(False).to(device)


def _load_parts(network: str, names: Sequence[str], trusted: bool, verbose: bool = True) -> dict[str, Any]:
    named, network = network, find_network(network)
    if network != named:
        print(f"Network: {network}", file=sys.stderr)
    if Path(network).is_dir():
        return {"G_ema": load_portable(Path(network))}
    snapshot = open_snapshot(network, names, trusted, verbose)
    for note in snapshot.notes:
        _log.warning("%s: %s", network, note)
    return snapshot.parts


def class_number(network: str, name: str, trusted: bool = False) -> int:
    """Look up the number of a class by its name, in the ``dataset.json`` that a network was trained on.

    Args:
        network: The network, as for `load_network`.
        name: Name of the class.
        trusted: Allow the snapshot to execute code.

    Raises:
        UserError: There is no such class, or the names are not known: the dataset was moved, or has none.
    """
    where = f"--class={name[:100]!a}"
    network = find_network(network)
    settings = {} if Path(network).is_dir() else open_snapshot(network, ["training_set_kwargs"], trusted).parts
    path = (settings.get("training_set_kwargs") or {}).get("path")
    if not isinstance(path, str) or not Path(path).exists():
        reason = "does not name its training set" if path is None else f"was trained on {str(path)[:1000]!a}, now gone"
        raise UserError(f"{where}: {network} {reason}, which holds the names of the classes: give the number")
    with closing(open_archive(path)) as archive:
        labels = read_labels(archive, require_images(archive))
    names = (None if labels is None else labels.class_names) or []
    compared = [comparable(each) for each in names]
    if comparable(name) not in compared:
        known = f"its classes are {some(names)}" if names else "its dataset.json has no class_names: give the number"
        raise UserError(f"{where}: {network} was trained on {path}; {known}")
    return compared.index(comparable(name))
