"""Untrusted settings of networks and datasets: limits on what they may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from dnnlib.errors import UserError
from torch_utils.safe_pickle import RefusedPickleError, Unknown

MAX_SETTINGS = 1000
MAX_NESTING = 8
MAX_TEXT_CHARS = 100_000
"""Characters of all names and values together."""
MAX_NETWORK_SIZE = 1 << 20
"""Largest number among a network's settings: channels, resolution."""
MAX_NETWORK_LAYERS = 256
"""Largest number among the settings whose names contain "layers"."""

NETWORK_NUMBERS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "conv_clamp": ("None or a number from 0", lambda value: value is None or (_is_number(value) and value >= 0)),
    "lr_multiplier": ("a number from 1e-9 to 1e9", lambda value: _is_number(value) and 1e-9 <= value <= 1e9),
}
"""Settings that networks can be built with, but not used, if they have other values than these."""

DATASET_SETTINGS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "class_name": ("text", lambda value: isinstance(value, str)),
    "path": ("text", lambda value: isinstance(value, str)),
    "resolution": ("a positive integer or None", lambda value: value is None or _is_integer(value, 1, 1 << 20)),
    "max_size": ("a positive integer or None", lambda value: value is None or _is_integer(value, 1, 1 << 62)),
    "use_labels": ("True or False", lambda value: isinstance(value, bool)),
    "xflip": ("True or False", lambda value: isinstance(value, bool)),
    "random_seed": ("an integer in 0..4294967295", lambda value: _is_integer(value, 0, (1 << 32) - 1)),
}
"""Settings of our dataset class and the values they can have."""


def check_settings(settings: Mapping[str, Any], where: str, is_network: bool = False) -> None:
    """Check that settings are numbers, text, None, and a moderate number of lists, tuples and dicts of them.

    Args:
        settings: The settings by name; values may be nested, shared or cyclic.
        where: Name of the settings, for the error.
        is_network: Limit the numbers too, to what a network can have.

    Raises:
        RefusedPickleError: They hold an object of an unknown class.
        UserError: They are something else, or too many.
    """
    pending: list[tuple[str, Any, int]] = [("", settings, 0)]
    num_seen = num_chars = 0
    while pending:
        key, value, depth = pending.pop()
        num_seen += 1
        num_chars += len(key) + (len(value) if isinstance(value, str) else 0)
        if is_network and key in NETWORK_NUMBERS and not isinstance(value, Unknown):
            kind, is_legal = NETWORK_NUMBERS[key]
            if not is_legal(value):
                raise UserError(f"{where}: {key} is not {kind}")
        if depth > MAX_NESTING or num_seen + len(pending) > MAX_SETTINGS or num_chars > MAX_TEXT_CHARS:
            limits = f"{MAX_SETTINGS} values, {MAX_NESTING} levels or {MAX_TEXT_CHARS} characters"
            raise UserError(f"{where}: more than {limits}")
        if isinstance(value, dict):
            pending += [(name, item, depth + 1) for name, item in value.items()]
        elif isinstance(value, list | tuple):
            pending += [(key, item, depth + 1) for item in value]
        else:
            _check_value(key, value, where, is_network)


def _check_value(key: str, value: Any, where: str, is_network: bool) -> None:
    if isinstance(value, Unknown):
        raise RefusedPickleError(f"{where}: {key[:100]!a} is made by {value.name!a}, which is not allowed")
    if not (value is None or isinstance(value, bool | int | float | str)):
        raise UserError(f"{where}: {key[:100]!a} is a {type(value).__name__}, not plain data")
    if is_network and isinstance(value, float) and math.isnan(value):
        raise UserError(f"{where}: a network cannot be built if {key[:100]!a} is NaN")
    if is_network and isinstance(value, int):
        largest = MAX_NETWORK_LAYERS if "layers" in key else MAX_NETWORK_SIZE
        if abs(value) > largest:
            raise UserError(f"{where}: {key[:100]!a} is {str(value)[:40]}, at most {largest} is allowed")


def check_dataset_settings(settings: Mapping[str, Any], where: str) -> None:
    """Check that `training.dataset.ImageFolderDataset` accepts the dataset settings of a snapshot.

    Args:
        settings: ``training_set_kwargs`` of a snapshot.
        where: The file, for the error.

    Raises:
        UserError: A setting is unknown, or its value is not allowed.
    """
    for key, value in settings.items():
        kind, is_legal = DATASET_SETTINGS.get(key, ("", None))
        if is_legal is None:
            raise UserError(
                f"{where}: its dataset was made with {key[:100]!a}, which is unknown here: give the images by --data"
            )
        if not is_legal(value):
            raise UserError(f"{where}: {key} of its dataset is not {kind}: give the images by --data")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_integer(value: Any, lowest: int, highest: int) -> bool:
    return type(value) is int and lowest <= value <= highest
