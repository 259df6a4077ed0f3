"""Reads networks from a checkpoint and the options of its run, as if from a snapshot; executes nothing."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from dnnlib.errors import UserError
from dnnlib.urls import open_url
from training.checkpoint import find_damage
from training.run.arguments import check_argument_types
from training.run.lookup import is_checkpoint
from training.run.options_file import OPTIONS_FILE, read_options
from training.run.roles import check_class_names
from training.run.stored_options import check_options
from training.snapshots.build import WeightBudget, construct, fill, first_mismatch
from training.snapshots.finite import ensure_finite
from training.snapshots.load import PARTS, ROLES, Snapshot, load_networks

NUM_CHANNELS = (3, 1)
"""Possible numbers of channels of the images; a checkpoint does not say which is right."""


def open_snapshot(
    network: str, names: Collection[str] = PARTS, trusted: bool = False, verbose: bool = True
) -> Snapshot:
    """Read parts of a snapshot, as `training.snapshots.load.load_networks` does, or of a checkpoint in a run folder.

    Args:
        network: Snapshot, by path or https URL; or ``training-state-*.safetensors``.
        names: The parts to read.
        trusted: Allow a snapshot to execute code.
        verbose: Announce a download.

    Raises:
        UserError: The file is missing or cannot be read.
    """
    if is_checkpoint(network) and Path(network).is_file():
        return load_checkpoint_networks(Path(network), names)
    with open_url(network, verbose=verbose) as file:
        return load_networks(file, names, trusted)


def load_checkpoint_networks(path: Path, names: Collection[str] = PARTS) -> Snapshot:
    """Read networks from a checkpoint: modules on the CPU, in evaluation mode, without gradients.

    The classes and settings are those in ``training_options.json`` beside it, which may name known classes only.

    Raises:
        UserError: A file is missing or damaged, or the two do not fit together.
    """
    options = read_options(path.parent)
    options_file = str(path.parent / OPTIONS_FILE)
    check_options(options, options_file)
    check_class_names(options, options_file, is_trusted=False)
    check_argument_types(options, options_file)
    if (problem := find_damage(path)) is not None:
        raise UserError(f"{problem}: give another checkpoint, or a snapshot")
    stored, c_dim = _read_tensors(path, names)
    parts: dict[str, Any] = {}
    notes: list[str] = []
    budget = WeightBudget(sum(tensor.nbytes for tensors in stored.values() for tensor in tensors.values()))
    for name in names:
        if name == "training_set_kwargs":
            parts[name] = options[name]
        elif not stored[name]:
            if name != "augment_pipe":
                raise UserError(f"{path} holds no {name}")
            parts[name] = None
        elif options.get(ROLES[name]) is None:
            raise UserError(f"{path} holds {name}, but {options_file} has no {ROLES[name]}: it is of another run")
        else:
            sizes = {} if name == "augment_pipe" else _sizes(options, c_dim, path)
            try:
                parts[name] = _build(options[ROLES[name]], sizes, stored[name], budget)
                notes += ensure_finite(name, parts[name])
            except UserError as error:
                raise UserError(f"{path}: {name}: {error}") from error
    return Snapshot(parts, notes)


def _read_tensors(path: Path, names: Collection[str]) -> tuple[dict[str, dict[str, torch.Tensor]], int]:
    """Return the tensors of each network by their names in ``state_dict``, and the width of labels."""
    stored: dict[str, dict[str, torch.Tensor]] = {name: {} for name in ROLES if name in names}
    try:
        with safe_open(path, framework="pt") as file:
            c_dim = file.get_slice("/grid/c").get_shape()[1]
            for key in file.keys():  # noqa: SIM118 (not a dict)
                _root, group, name, tensor_name = (key.split("/", 3) + [""] * 3)[:4]
                if group == "modules" and name in stored:
                    stored[name][tensor_name] = file.get_tensor(key)
    except Exception as error:  # a damaged header makes the library raise almost anything
        raise UserError(f"{path} does not hold a checkpoint ({type(error).__name__})") from error
    return stored, c_dim


def _sizes(options: dict[str, Any], c_dim: int, path: Path) -> dict[str, Any]:
    resolution = options["training_set_kwargs"].get("resolution")
    if resolution is None:
        raise UserError(f"{path}: {OPTIONS_FILE} does not name the size of the images: use a snapshot (.pkl)")
    return {"c_dim": c_dim, "img_resolution": resolution}


def _build(
    settings: dict[str, Any], sizes: dict[str, Any], tensors: dict[str, torch.Tensor], budget: WeightBudget
) -> torch.nn.Module:
    settings = dict(settings)
    class_name = settings.pop("class_name")
    candidates = [{"img_channels": num} for num in NUM_CHANNELS] if sizes else [{}]
    mismatches = []
    for channels in candidates:
        network = construct(class_name, (), {**settings, **sizes, **channels}, WeightBudget(budget.stored_bytes))
        mismatch = first_mismatch(network.state_dict(), tensors)
        if mismatch is None:
            return fill(network, tensors)
        mismatches.append(mismatch)
    name, asked, found = mismatches[0]
    raise UserError(f"{OPTIONS_FILE} does not fit: tensor {name}: it asks for {asked}, the checkpoint has {found}")
