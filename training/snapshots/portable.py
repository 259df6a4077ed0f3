"""A generator in files that execute nothing: weights in ``model.safetensors``, settings in ``config.json``."""

from __future__ import annotations

import inspect
import json
import logging
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from dnnlib.atomic import write_atomic
from dnnlib.commands import how_to_run
from dnnlib.errors import UserError
from dnnlib.file_content import content_fault
from dnnlib.json_file import encode_json
from dnnlib.object_names import name_of_class
from training.run.json_files import read_small_file
from training.run.roles import allowed_classes
from training.snapshots.build import WeightBudget, construct, fill, first_mismatch
from training.snapshots.finite import ensure_finite

WEIGHTS = "model.safetensors"
CONFIG = "config.json"

_log = logging.getLogger(__name__)


def known_generators() -> tuple[str, ...]:
    """Return the dotted names of the generators that ``train.py`` can be asked for, those of installed methods too."""
    return allowed_classes()["G_kwargs"]


def save_portable(folder: Path, G_ema: torch.nn.Module) -> None:
    """Write ``model.safetensors`` and ``config.json``; a kill in between leaves what can be replaced, not loaded.

    Args:
        folder: Folder to write to; made if it does not exist.
        G_ema: The generator; it stays as it is.

    Raises:
        UserError: It is not one of `known_generators`, or the folder holds files of these names that describe something
            else.
    """
    check_replaceable(folder)
    class_name = name_of_class(type(G_ema))
    if class_name not in known_generators():
        raise UserError(f"a {class_name} cannot be described: only {', '.join(known_generators())} can")
    network: Any = G_ema  # its class was made persistent by a decorator that type checkers do not see through
    arguments = inspect.signature(type(G_ema)).bind(*network.init_args, **network.init_kwargs).arguments
    config = encode_json({"class_name": class_name, "init_kwargs": arguments}, indent=2)
    tensors = {name: _own_copy(tensor) for name, tensor in G_ema.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / WEIGHTS).exists() and (folder / CONFIG).read_bytes() != config:
        (folder / WEIGHTS).unlink()  # must not stand beside the settings of another generator
    write_atomic(folder / CONFIG, config)  # first: it says whose weights these are
    write_atomic(folder / WEIGHTS, safetensors.torch.save(tensors, metadata={"format": "pt"}))


def check_replaceable(folder: Path) -> None:
    """Make sure that what `save_portable` would replace in a folder is a generator.

    Raises:
        UserError: It holds files of the same names that are not; other kinds of models use these names, too.
    """
    present = [name for name in (CONFIG, WEIGHTS) if (folder / name).exists()]
    try:
        if present:
            _read_config(folder / CONFIG)
    except UserError as error:
        raise UserError(
            f"{folder} holds {' and '.join(present)} of something else, which would be replaced: choose another folder"
        ) from error


def load_portable(folder: Path) -> torch.nn.Module:
    """Read what `save_portable` wrote: the generator on the CPU, in evaluation mode, without gradients.

    A mean of w that is not finite is reset, which the log of this module says.

    Raises:
        UserError: A file is missing or damaged, or the two do not fit together.
    """
    class_name, init_kwargs = _read_config(folder / CONFIG)
    tensors = _read_weights(folder / WEIGHTS)
    try:
        G = construct(class_name, (), init_kwargs, WeightBudget(sum(tensor.nbytes for tensor in tensors.values())))
        _check_tensors(tensors, G.state_dict())
        G = fill(G, tensors)
        notes = ensure_finite("G_ema", G)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error
    for note in notes:
        _log.warning("%s: %s", folder, note)
    return G


def _own_copy(tensor: torch.Tensor) -> torch.Tensor:
    """Copy a tensor: the format takes neither strides nor tensors that share memory."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _read_config(path: Path) -> tuple[str, dict[str, Any]]:
    if not path.is_file():
        raise UserError(
            f"{path.parent} is neither a run folder nor an exported generator (it holds no {CONFIG}): give a snapshot "
            f"(.pkl), a run folder, or a folder that {how_to_run('-m training.inference.export')} wrote"
        )
    try:
        config = json.loads(read_small_file(path))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {str(error)[:200]!a}") from error
    class_name = config.get("class_name") if isinstance(config, dict) else None
    if class_name not in known_generators():
        raise UserError(f"{path}: class_name must be one of {', '.join(known_generators())}")
    init_kwargs = config.get("init_kwargs")
    if not isinstance(init_kwargs, dict):
        raise UserError(f"{path}: init_kwargs must be the settings of the generator")
    return class_name, init_kwargs


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise UserError(f"{path} cannot be read: there is no such file")
    if fault := content_fault(path):
        raise UserError(f"{path} is {fault}")
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # a damaged header makes the library raise almost anything
        raise UserError(f"{path} cannot be read: {str(error)[:200]!a}") from error


def _check_tensors(tensors: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    if mismatch := first_mismatch(expected, tensors):
        name, asked, found = mismatch
        raise UserError(f"tensor {name}: {CONFIG} asks for {asked}, {WEIGHTS} has {found}")
    for name in sorted(tensors):
        if not tensors[name].is_floating_point() and tensors[name].dtype != expected[name].dtype:  # such as a counter
            raise UserError(f"tensor {name[:100]!a}: {WEIGHTS} has {tensors[name].dtype}, not floating point")
