"""Untrusted settings of networks and datasets: limits, and translation from related projects.

stylegan3 (https://github.com/NVlabs/stylegan3) with ``--cfg=stylegan2`` trains StyleGAN2 networks. Its generator takes
the settings of the synthesis network as arguments of its own, and its defaults of clamping, half precision and
``w_avg_beta`` differ from StyleGAN2-ADA's. Settings that a file omits are therefore taken from the stored layers
(docs/compatibility.md).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dnnlib.util import UserError
from torch_utils.safe_pickle import PersistentObject, RefusedPickleError, Unknown
from training.networks import Discriminator, Generator, MappingNetwork, SynthesisBlock, SynthesisNetwork

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

NEUTRAL_SETTINGS = ("fused_modconv_default",)
"""Settings of related projects that only choose between implementations of the same computation."""

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
        if is_network and key in NETWORK_NUMBERS:
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


def translate_settings(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], state: Mapping[str, Any]
) -> dict[str, Any]:
    """Translate the keyword arguments of a stored network into those of our class.

    Args:
        name: Class name of the network.
        args: Its positional arguments.
        kwargs: Its keyword arguments, checked.
        state: Its stored state, which contains its layers.
    """
    if name == "Generator" and len(args) <= 5:
        return _translate_generator(kwargs, state)
    if name == "Discriminator" and len(args) <= 3:
        blocks = list(_blocks(state))
        return {**_precision(blocks, _default(Discriminator, "conv_clamp")), **kwargs}
    return kwargs


def _translate_generator(kwargs: dict[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    own = inspect.signature(Generator).parameters
    groups = {group: kwargs.get(group, {}) for group in ("mapping_kwargs", "synthesis_kwargs")}
    if not all(isinstance(group, dict) for group in groups.values()):
        return kwargs
    beside = {key: value for key, value in kwargs.items() if key not in own}
    blocks = list(_blocks(_child(state, "synthesis")))
    synthesis = {**_precision(blocks, _default(SynthesisBlock, "conv_clamp")), **groups["synthesis_kwargs"], **beside}
    for key in NEUTRAL_SETTINGS:
        synthesis.pop(key, None)
    beta = _child(state, "mapping").get("w_avg_beta")
    is_other = type(beta) is float and beta != _default(MappingNetwork, "w_avg_beta")
    mapping = {**({"w_avg_beta": beta} if is_other else {}), **groups["mapping_kwargs"]}

    translated = {key: value for key, value in kwargs.items() if key in own}
    for group, settings in (("mapping_kwargs", mapping), ("synthesis_kwargs", synthesis)):
        if settings or group in kwargs:
            translated[group] = type(kwargs.get(group, {}))(settings)
    return translated


def _precision(blocks: list[Mapping[str, Any]], default_clamp: Any) -> dict[str, Any]:
    """Half precision and clamping of the stored blocks, where they differ from our defaults."""
    num_fp16_res = sum(block.get("use_fp16") is True for block in blocks)
    clamps = [_child(block, "conv1").get("conv_clamp") for block in blocks]
    found: dict[str, Any] = {}
    if num_fp16_res != _default(SynthesisNetwork, "num_fp16_res"):
        found["num_fp16_res"] = num_fp16_res
    if clamps and type(clamps[0]) in (int, float) and clamps[0] != default_clamp:
        found["conv_clamp"] = clamps[0]
    return found


def _blocks(state: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """States of the blocks of one resolution each, from 8 up, which are named ``b<resolution>``."""
    for log2 in range(3, MAX_NETWORK_SIZE.bit_length()):
        block = _child(state, f"b{2**log2}")
        if block:
            yield block


def _child(state: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    children = state.get("_modules")
    child = children.get(name) if isinstance(children, dict) else None
    return child.state if isinstance(child, PersistentObject) else {}


def _default(network_class: type, name: str) -> Any:
    return inspect.signature(network_class).parameters[name].default
