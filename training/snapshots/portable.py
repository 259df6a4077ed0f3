"""A generator in files that execute nothing: weights in ``model.safetensors``, settings in ``config.json``."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from dnnlib.atomic import write_atomic
from dnnlib.util import UserError
from training.networks import Generator
from training.snapshots.build import construct, fill

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CLASS_NAME = "training.networks.Generator"


def save_portable(folder: Path, G_ema: torch.nn.Module) -> None:
    """Write ``model.safetensors`` and ``config.json``.

    Args:
        folder: Where to; made if it is not there.
        G_ema: The generator; it stays as it is.

    Raises:
        UserError: It is not an instance of our own class.
    """
    if not isinstance(G_ema, Generator):
        raise UserError(f"a {type(G_ema).__module__}.{type(G_ema).__name__} cannot be described: only {CLASS_NAME} can")
    network: Any = G_ema  # its class was made persistent by a decorator that type checkers do not see through
    arguments = inspect.signature(Generator).bind(*network.init_args, **network.init_kwargs).arguments
    config = {"class_name": CLASS_NAME, "init_kwargs": arguments}
    tensors = {name: _own_copy(tensor) for name, tensor in G_ema.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / WEIGHTS, safetensors.torch.save(tensors, metadata={"format": "pt"}))
    write_atomic(folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def load_portable(folder: Path) -> torch.nn.Module:
    """Read what `save_portable` wrote: the generator on the CPU, in evaluation mode, without gradients.

    Raises:
        UserError: A file is missing or damaged, or the two do not fit together.
    """
    init_kwargs = _read_config(folder / CONFIG)
    tensors = _read_weights(folder / WEIGHTS)
    try:
        G = construct(CLASS_NAME, (), init_kwargs, sum(tensor.numel() for tensor in tensors.values()))
        _check_same_shapes(tensors, G.state_dict())
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error
    return fill(G, tensors)


def _own_copy(tensor: torch.Tensor) -> torch.Tensor:
    """The format takes neither strides nor tensors that share memory."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(
            f"{path.parent} holds no {CONFIG}: give a snapshot (.pkl), "
            "or a folder that python -m training.inference.export wrote"
        ) from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict) or config.get("class_name") != CLASS_NAME:
        raise UserError(f"{path}: class_name must be {CLASS_NAME}")
    init_kwargs = config.get("init_kwargs")
    if not isinstance(init_kwargs, dict):
        raise UserError(f"{path}: init_kwargs must be the settings of the generator")
    return init_kwargs


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _check_same_shapes(tensors: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name in sorted(tensors.keys() | expected.keys()):
        shapes = [list(side[name].shape) if name in side else "none" for side in (expected, tensors)]
        if shapes[0] != shapes[1]:
            raise UserError(f"tensor {name[:100]!a}: {CONFIG} asks for {shapes[0]}, {WEIGHTS} has {shapes[1]}")
