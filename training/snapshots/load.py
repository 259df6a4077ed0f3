"""Opening snapshots: our own, those of StyleGAN2-ADA (PyTorch) and its relatives, and those of the TensorFlow era."""

from __future__ import annotations

import inspect
import logging
import pickle
from collections.abc import Collection
from dataclasses import dataclass
from typing import IO, Any

import torch

from dnnlib.errors import UserError
from dnnlib.object_names import module_name_here
from dnnlib.util import EasyDict
from torch_utils import safe_pickle
from torch_utils.safe_pickle import PersistentObject, RefusedPickleError, TFNetwork, Unknown
from training.data.names import first_few
from training.run.options import FP16_CLAMP, HALF_RESOLUTIONS
from training.run.roles import allowed_classes
from training.snapshots.build import WeightBudget, build_network
from training.snapshots.finite import ensure_finite
from training.snapshots.other_files import SNAPSHOT, describe_other_file, is_pickle
from training.snapshots.settings import check_settings
from training.snapshots.tensorflow import import_tf_networks

PARTS = ("training_set_kwargs", "G", "D", "G_ema", "augment_pipe")
"""What a snapshot consists of."""
OPTIONAL_PARTS = ("training_set_kwargs", "augment_pipe")
ROLES = {"G": "G_kwargs", "D": "D_kwargs", "G_ema": "G_kwargs", "augment_pipe": "augment_kwargs"}
"""Option of the training loop, as in `allowed_classes`, that holds the class and the settings of a network."""
MAX_LISTED = 10

TRUST_HINT = "If you trust its author, --trust-pickle (API: trusted=True) opens it by executing code from the file"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """What was read from a snapshot."""

    parts: dict[str, Any]
    """The parts asked for: modules on the CPU in evaluation mode without gradients, and plain data."""
    notes: list[str]
    """One line each for the user: what was left out, what was repaired."""


def known_classes() -> dict[str, dict[str, str]]:
    """Return, for each network of a snapshot, the classes it may name and the dotted names of ours.

    They are those of StyleGAN2-ADA and of everything ``train.py`` can be asked for, installed methods included.
    """
    allowed = allowed_classes()
    return {part: {name.rpartition(".")[2]: name for name in allowed[role]} for part, role in ROLES.items()}


def load_network_pkl(f: IO[bytes], force_fp16: bool = False, trusted: bool = False) -> dict[str, Any]:
    """Read a snapshot; nothing in it is executed unless it is ``trusted``.

    The notes of `load_networks` go to the log of this module.

    Args:
        f: Snapshot of this project or of StyleGAN2-ADA (PyTorch), or pickle of TensorFlow's StyleGAN2(-ADA).
        force_fp16: Rebuild the networks for half precision at the four highest resolutions, clamped to +-256.
        trusted: Use the ordinary unpickler, which executes the source code in the file; needed for custom classes.
            Modules stay in the mode in which they were saved.

    Returns:
        'G', 'D', 'G_ema' and 'augment_pipe', modules on the CPU in evaluation mode without gradients, and
        'training_set_kwargs', plain data with an unchecked ``class_name`` (see `check_dataset_settings` in
        `training.snapshots.settings`). The last two are None if the file does not contain them.

    Raises:
        UserError: The file is damaged, or needs more than the known classes and is not trusted.
    """
    snapshot = load_networks(f, trusted=trusted)
    for note in snapshot.notes:
        _log.warning("%s: %s", _name_of(f), note)
    data = snapshot.parts
    if force_fp16:
        data.update({key: _rebuild_for_fp16(key, data[key]) for key in ("G", "D", "G_ema")})
    return data


def load_networks(f: IO[bytes], names: Collection[str] = PARTS, trusted: bool = False) -> Snapshot:
    """Read some parts of a snapshot; its other contents, even if damaged or unknown, do not matter.

    Args:
        f: The file, as for `load_network_pkl`.
        names: The `PARTS` to read: ``["G_ema"]`` for images, ``["G", "D", "G_ema"]`` for transfer learning.
        trusted: Whether to execute code, as for `load_network_pkl`.

    Returns:
        The parts by name, None for a missing one of `OPTIONAL_PARTS`, and notes. A mean of w that is not finite is
        reset (`training.snapshots.finite`) and noted.

    Raises:
        UserError: The file is something else, damaged, or needs more than the known classes for what was asked and is
            not trusted; or a network is not finite and not trusted.
    """
    if unknown := set(names) - set(PARTS):
        raise UserError(f"a snapshot has no parts {sorted(unknown)}, only {', '.join(PARTS)}")
    where = _name_of(f)
    try:
        f = safe_pickle.as_seekable(f)
        position = f.tell()
        if (other := describe_other_file(f)) is not None:
            raise UserError(f"not a snapshot but {other}")
        parts, notes = _unpickle_trusted(f, names) if trusted else _load_safely(f, names)
        for name, part in parts.items():
            if isinstance(part, torch.nn.Module):
                notes += ensure_finite(name, part, trusted)
    except RefusedPickleError as error:
        f.seek(position)
        hint = f"{error}. {TRUST_HINT}" if is_pickle(f) else f"not a pickle; {SNAPSHOT}"
        raise UserError(f"{where}: {hint}") from error
    except MemoryError as error:
        raise UserError(f"{where}: there is not enough memory to read it") from error
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return Snapshot(parts, notes)


def _name_of(f: IO[bytes]) -> str:
    return str(getattr(f, "name", "snapshot"))


def _load_safely(f: IO[bytes], names: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    data = _read_pickle(f)
    if isinstance(data, Unknown):
        raise RefusedPickleError(f"global {data.name!a} is not allowed")
    if isinstance(data, tuple) and [type(network) for network in data] == [TFNetwork] * 3:
        networks = import_tf_networks(data, [name for name in names if name not in OPTIONAL_PARTS])
        return {name: networks.get(name) for name in names}, []
    if not isinstance(data, dict):
        raise UserError(f"holds a {type(data).__name__}, not a snapshot of networks")
    budget = WeightBudget.of(data)
    return {name: _read_part(name, data, budget) for name in names}, _describe_others(data)


def _read_pickle(f: IO[bytes]) -> Any:
    position = f.tell()
    try:
        return safe_pickle.load(f, keep_unknown=True)
    except RefusedPickleError:
        raise
    except UserError as error:
        f.seek(position)
        if is_pickle(f):
            raise
        raise UserError(f"not a pickle; {SNAPSHOT}") from error


def _read_part(name: str, data: dict[str, Any], budget: WeightBudget) -> Any:
    stored = data.get(name)
    if stored is None and name in OPTIONAL_PARTS:
        return None
    if stored is None:
        raise UserError(f"holds no {name}, but {_list(data) or 'nothing'}; {SNAPSHOT}")
    if name == "training_set_kwargs":
        return _plain_settings(stored)
    try:
        return build_network(stored, known_classes()[name], budget)
    except UserError as error:
        raise type(error)(f"{name}: {error}") from error


def _plain_settings(settings: Any) -> EasyDict:
    if not isinstance(settings, dict):
        raise UserError("its training_set_kwargs are not a dict")
    check_settings(settings, "training_set_kwargs")
    return EasyDict(settings)


def _describe_others(data: dict[str, Any]) -> list[str]:
    others = {key: value for key, value in data.items() if key not in PARTS}
    return [f"left out {_list(others)}, which StyleGAN2-ADA's snapshots do not have"] if others else []


def _list(data: dict[str, Any]) -> str:
    """List names and kinds of values out of a file."""
    return first_few([f"{key[:40]!a} ({_kind(value)})" for key, value in data.items()], MAX_LISTED)


def _kind(value: Any) -> str:
    name = value.class_name if isinstance(value, PersistentObject) else value.name if isinstance(value, Unknown) else ""
    return ascii(name[:60])[1:-1] if name else type(value).__name__


class _TrustingUnpickler(pickle.Unpickler):
    """Finds our modules by the names in snapshots, whatever they are called in this process."""

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(module_name_here(module), name)


def _unpickle_trusted(f: IO[bytes], names: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    try:
        data = _TrustingUnpickler(f).load()
    except Exception as error:  # code in the file can raise anything
        text = f"{type(error).__name__}: {str(error)[:200]!a}"
        raise UserError(f"cannot be unpickled here ({text}); try without --trust-pickle") from error
    networks = [name for name in names if name not in OPTIONAL_PARTS]
    if not isinstance(data, dict) or not all(isinstance(data.get(name), torch.nn.Module) for name in networks):
        raise UserError(f"holds no snapshot with {', '.join(networks)}")
    return {name: data.get(name) for name in names}, _describe_others({str(key): data[key] for key in data})


def _rebuild_for_fp16(key: str, network: Any) -> torch.nn.Module:
    try:
        positional = inspect.signature(type(network)).bind_partial(*network.init_args).arguments
        kwargs: dict[str, Any] = {**positional, **network.init_kwargs}
        half = {"num_fp16_res": HALF_RESOLUTIONS, "conv_clamp": FP16_CLAMP}
        if key == "D":
            kwargs.update(half)
        else:
            kwargs["synthesis_kwargs"] = {**kwargs.get("synthesis_kwargs", {}), **half}
        rebuilt: torch.nn.Module = type(network)(**kwargs)
        rebuilt.load_state_dict(network.state_dict())
    except Exception as error:  # a trusted class takes what it likes
        raise UserError(f"{key} cannot be rebuilt for half precision: {str(error)[:200]!a}") from error
    return rebuilt.eval().requires_grad_(False)
