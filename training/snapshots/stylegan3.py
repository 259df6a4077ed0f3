"""Networks of stylegan3, whose settings are translated into those of our classes.

stylegan3 (https://github.com/NVlabs/stylegan3) with ``--cfg=stylegan2`` trains StyleGAN2 networks. Its generator takes
the settings of the synthesis network as arguments of its own, and its defaults of clamping, half precision and
``w_avg_beta`` differ from StyleGAN2-ADA's. Settings that a file omits are therefore taken from the stored layers
(docs/compatibility.md).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from torch_utils.safe_pickle import PersistentObject
from training.networks import Discriminator, Generator, MappingNetwork, SynthesisBlock, SynthesisNetwork
from training.snapshots.settings import MAX_NETWORK_SIZE

NEUTRAL_SETTINGS = ("fused_modconv_default",)
"""Settings that only choose between implementations of the same computation."""


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
    """Return the settings of half precision and clamping of the stored blocks, where they differ from our defaults."""
    num_fp16_res = sum(block.get("use_fp16") is True for block in blocks)
    clamps = [_child(block, "conv1").get("conv_clamp") for block in blocks]
    found: dict[str, Any] = {}
    if num_fp16_res != _default(SynthesisNetwork, "num_fp16_res"):
        found["num_fp16_res"] = num_fp16_res
    if clamps and type(clamps[0]) in (int, float) and clamps[0] != default_clamp:
        found["conv_clamp"] = clamps[0]
    return found


def _blocks(state: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the state of each block of one resolution, from 8 up, which is named ``b<resolution>``."""
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
