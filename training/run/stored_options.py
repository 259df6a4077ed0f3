"""Checking options that were read from a run folder, which may have been edited or come from a stranger."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import torch

from dnnlib.errors import UserError
from dnnlib.object_names import get_obj_by_name
from training.data.names import shown
from training.run.roles import DATASET
from training.run.settings import MAX_NUMBER, NOT_STORED, check_stored_settings
from training.snapshots.settings import check_dataset_settings, check_settings

MAX_LATENT_SIZE = 1 << 14
"""Largest z_dim and w_dim; the sample grid alone keeps 1024 latents."""

LOADER_OPTIONS: dict[str, tuple[type, int, int]] = {
    "num_workers": (int, 0, 1 << 16),
    "prefetch_factor": (int, 1, 1 << 10),
    "pin_memory": (bool, 0, 1),
}
"""Type, smallest and largest value of each option of the data loader."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Characters that control a terminal or reorder the text that it shows."""


def check_options(kwargs: dict[str, Any], where: str) -> None:
    """Check names, types and ranges of options; nothing is constructed.

    Args:
        kwargs: Arguments of the training loop.
        where: The file, for the error.

    Raises:
        UserError: An option is unknown, or its value is invalid.
    """
    for name in NOT_STORED:
        if name in kwargs:
            raise UserError(f"{where}: {name} is not an option of a run; delete it")
    check_stored_settings(kwargs, where)
    check_settings(kwargs, where)
    for name, value in _values(kwargs):
        if isinstance(value, str) and _CONTROL.search(value):
            raise UserError(f"{where}: {name[:100]!a} contains control characters: {value[:100]!a}")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{where}: {name} is {value}, not a finite number")
        if isinstance(value, int | float) and abs(value) > MAX_NUMBER:
            raise UserError(f"{where}: {name} is {shown(str(value))}, but numbers must be up to {MAX_NUMBER:g}")
    for name in ("G_kwargs", "D_kwargs"):
        check_settings(kwargs.get(name, {}), f"{where}: {name}", is_network=True)
    for name in ("z_dim", "w_dim"):
        size = kwargs.get("G_kwargs", {}).get(name, 1)
        if not (type(size) is int and 0 < size <= MAX_LATENT_SIZE):
            raise UserError(f"{where}: {name} of G_kwargs must be a whole number from 1 to {MAX_LATENT_SIZE}")
    _check_batch(kwargs, where)
    _check_loader(kwargs.get("data_loader_kwargs", {}), where)
    for dataset in (kwargs.get("training_set_kwargs", {}), kwargs.get("metric_set_kwargs") or {}):
        if dataset.get("class_name") == DATASET:
            check_dataset_settings(dataset, where)


def _values(options: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield all names and single values, each with the name of its option."""
    pending: list[tuple[str, Any]] = list(options.items())
    while pending:
        name, value = pending.pop()
        yield name, name
        if isinstance(value, dict):
            pending += value.items()
        elif isinstance(value, list):
            pending += [(name, item) for item in value]
        else:
            yield name, value


def _check_batch(kwargs: dict[str, Any], where: str) -> None:
    batch, gpus, share = (kwargs.get(name, 1) for name in ("batch_size", "num_gpus", "batch_gpu"))
    if batch % (gpus * share) != 0:
        raise UserError(
            f"{where}: batch_size={batch} must be a multiple of num_gpus={gpus} times batch_gpu={share}, the images "
            "per pass of each process"
        )


def _check_loader(options: dict[str, Any], where: str) -> None:
    known = ", ".join(
        f"{name} ({kind.__name__} from {least} to {most})" for name, (kind, least, most) in LOADER_OPTIONS.items()
    )
    for name, value in options.items():
        has_type = name in LOADER_OPTIONS and type(value) is LOADER_OPTIONS[name][0]
        if not has_type or not LOADER_OPTIONS[name][1] <= value <= LOADER_OPTIONS[name][2]:
            raise UserError(
                f"{where}: {name[:100]!a} of data_loader_kwargs is {shown(str(value))}, which cannot be used; its "
                f"options are {known}"
            )


def check_dataset_class(name: str, where: str) -> None:
    """Import the dataset class and make sure that it is one, before it is called.

    Raises:
        UserError: It is not a subclass of ``torch.utils.data.Dataset``.
    """
    found = get_obj_by_name(name)
    if not (isinstance(found, type) and issubclass(found, torch.utils.data.Dataset)):
        raise UserError(f"{where}: {name[:100]!a} is not a dataset class, a subclass of torch.utils.data.Dataset")
