"""Networks of the TensorFlow era: settings and variables of StyleGAN2 and StyleGAN2-ADA by our names.

Their pickles hold a tuple (G, D, Gs), Gs being the moving average of G. Variables have names like
``synthesis/8x8/Conv0_up/mod_weight``; convolution weights are stored [k, k, I, O], dense ones [I, O]. Biases of styles
are stored relative to 1. Convolutions that upsample are stored mirrored, because the transposed convolution mirrors.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import torch

from dnnlib.errors import UserError
from torch_utils.safe_pickle import TFNetwork
from training.snapshots.build import WeightBudget, construct, fill

GENERATOR_LAYERS = {
    r"mapping\.embed": r"mapping/LabelEmbed",
    r"mapping\.fc(\d+)": r"mapping/Dense\1",
    r"synthesis\.b4": r"synthesis/4x4/Const",
    r"synthesis\.b4\.conv1": r"synthesis/4x4/Conv",
    r"synthesis\.b(\d+)\.conv0": r"synthesis/\1x\1/Conv0_up",
    r"synthesis\.b(\d+)\.conv1": r"synthesis/\1x\1/Conv1",
    r"synthesis\.b(\d+)\.skip": r"synthesis/\1x\1/Skip",
    r"synthesis\.b(\d+)\.torgb": r"synthesis/\1x\1/ToRGB",
}
DISCRIMINATOR_LAYERS = {
    r"b4\.conv": r"4x4/Conv",
    r"b4\.fc": r"4x4/Dense0",
    r"b4\.out": r"Output",
    r"b(\d+)\.conv0": r"\1x\1/Conv0",
    r"b(\d+)\.conv1": r"\1x\1/Conv1_down",
    r"b(\d+)\.fromrgb": r"\1x\1/FromRGB",
    r"b(\d+)\.skip": r"\1x\1/Skip",
    r"mapping\.embed": r"LabelEmbed",
    r"mapping\.fc(\d+)": r"Mapping\1",
}
"""The names of our layers, as patterns, and of the TensorFlow layers."""

GENERATOR_SETTINGS = {
    "architecture": "synthesis_kwargs.architecture",
    "conv_clamp": "synthesis_kwargs.conv_clamp",
    "dlatent_avg_beta": "mapping_kwargs.w_avg_beta",
    "dlatent_size": "w_dim",
    "fmap_base": "synthesis_kwargs.channel_base",
    "fmap_max": "synthesis_kwargs.channel_max",
    "label_fmaps": "mapping_kwargs.embed_features",
    "label_size": "c_dim",
    "latent_size": "z_dim",
    "mapping_fmaps": "mapping_kwargs.layer_features",
    "mapping_layers": "mapping_kwargs.num_layers",
    "mapping_lrmul": "mapping_kwargs.lr_multiplier",
    "mapping_nonlinearity": "mapping_kwargs.activation",
    "nonlinearity": "synthesis_kwargs.activation",
    "num_channels": "img_channels",
    "num_fp16_res": "synthesis_kwargs.num_fp16_res",
    "resample_kernel": "synthesis_kwargs.resample_filter",
    "resolution": "img_resolution",
    "use_noise": "synthesis_kwargs.use_noise",
    "w_avg_beta": "mapping_kwargs.w_avg_beta",
}
DISCRIMINATOR_SETTINGS = {
    "architecture": "architecture",
    "conv_clamp": "conv_clamp",
    "fmap_base": "channel_base",
    "fmap_max": "channel_max",
    "freeze_layers": "block_kwargs.freeze_layers",
    "label_size": "c_dim",
    "mapping_fmaps": "mapping_kwargs.embed_features mapping_kwargs.layer_features",
    "mapping_layers": "mapping_kwargs.num_layers",
    "mapping_lrmul": "mapping_kwargs.lr_multiplier",
    "mapping_nonlinearity": "mapping_kwargs.activation",
    "mbstd_group_size": "epilogue_kwargs.mbstd_group_size",
    "mbstd_num_features": "epilogue_kwargs.mbstd_num_channels",
    "nonlinearity": "block_kwargs.activation epilogue_kwargs.activation",
    "num_channels": "img_channels",
    "num_fp16_res": "num_fp16_res",
    "resample_kernel": "block_kwargs.resample_filter",
    "resolution": "img_resolution",
}
"""TensorFlow settings, and the corresponding arguments of our classes."""

IGNORED_SETTINGS = {
    *("mapping_func", "structure", "style_mixing_prob", "synthesis_func", "truncation_cutoff", "truncation_psi")
}
"""Settings of training or sampling, not of the network."""

GENERATOR_DEFAULTS = {"z_dim": 512, "c_dim": 0, "w_dim": 512, "img_resolution": 1024, "img_channels": 3}
DISCRIMINATOR_DEFAULTS = {
    "c_dim": 0,
    "img_resolution": 1024,
    "img_channels": 3,
    "mapping_kwargs": {"num_layers": 0, "lr_multiplier": 0.1},
}
"""Defaults of TensorFlow settings, where our classes have no default or a different one."""


MAX_LISTED = 10


def import_tf_networks(
    networks: tuple[TFNetwork, TFNetwork, TFNetwork],
    names: Collection[str] = ("G", "D", "G_ema"),
) -> dict[str, torch.nn.Module]:
    """Convert those of (G, D, Gs) that are asked for by the names 'G', 'D' and 'G_ema'.

    Unknown settings are ignored with a warning: they may change the images.

    Raises:
        UserError: A variable is missing, left over or of a shape that does not follow from the settings.
    """
    converters = {"G": convert_generator, "D": convert_discriminator, "G_ema": convert_generator}
    stored = dict(zip(converters, networks, strict=True))
    budget = _budget(networks)
    return {name: converters[name](stored[name], budget) for name in names}


def _budget(networks: Iterable[TFNetwork]) -> WeightBudget:
    """Count their arrays, shared ones once."""
    arrays = [array for network in networks for array in network.variables().values()]
    return WeightBudget(sum({array.__array_interface__["data"][0]: array.nbytes for array in arrays}.values()))


def convert_generator(network: TFNetwork, budget: WeightBudget | None = None) -> torch.nn.Module:
    """Convert a generator with its mapping network; see `import_tf_networks`."""
    kwargs = _translate_settings(network, GENERATOR_SETTINGS, GENERATOR_DEFAULTS)
    variables, is_progressive = _used_variables(network, kwargs["img_resolution"])
    if is_progressive:
        kwargs.setdefault("synthesis_kwargs", {})["architecture"] = "orig"
    embedding = variables.get("mapping/LabelEmbed/bias")
    if embedding is not None:
        kwargs.setdefault("mapping_kwargs", {})["embed_features"] = embedding.size
    budget = budget or _budget([network])
    return _convert("training.networks.Generator", kwargs, variables, GENERATOR_LAYERS, budget)


def convert_discriminator(network: TFNetwork, budget: WeightBudget | None = None) -> torch.nn.Module:
    """Convert a discriminator; see `import_tf_networks`."""
    kwargs = _translate_settings(network, DISCRIMINATOR_SETTINGS, DISCRIMINATOR_DEFAULTS)
    variables, is_progressive = _used_variables(network, kwargs["img_resolution"])
    if is_progressive:
        kwargs["architecture"] = "orig"
    if kwargs["c_dim"] and "Output/bias" in variables:
        kwargs["cmap_dim"] = variables["Output/bias"].size
    budget = budget or _budget([network])
    return _convert("training.networks.Discriminator", kwargs, variables, DISCRIMINATOR_LAYERS, budget)


def _translate_settings(network: TFNetwork, arguments: dict[str, str], defaults: dict[str, Any]) -> dict[str, Any]:
    kwargs = copy.deepcopy(defaults)
    for name in network.static_kwargs.keys() & arguments.keys():
        value = network.static_kwargs[name]
        if name == "fmap_base" and isinstance(value, int):
            value *= 2  # theirs is divided by half the resolution
        for argument in arguments[name].split():
            group, _, key = argument.rpartition(".")
            (kwargs.setdefault(group, {}) if group else kwargs)[key] = value
    unknown = network.static_kwargs.keys() - arguments.keys() - IGNORED_SETTINGS
    if unknown:
        warnings.warn(f"TensorFlow network: unknown settings are ignored: {_list(unknown)}", stacklevel=2)
    return kwargs


def _used_variables(network: TFNetwork, resolution: Any) -> tuple[dict[str, np.ndarray], bool]:
    """Return the variables in use, and whether the network was made for progressive growing.

    Such a network has one layer to or from RGB per level of detail; the finished network uses level 0.
    """
    variables: dict[str, np.ndarray] = {}
    is_progressive = False
    for name, value in network.variables().items():
        match = re.fullmatch(r"(synthesis/)?(To|From)RGB_lod(\d+)/(\w+)", name)
        if match is None:
            variables[name] = value
            continue
        prefix, direction, level, parameter = match.groups("")
        is_progressive = True
        if level == "0" and isinstance(resolution, int):
            variables[f"{prefix}{resolution}x{resolution}/{direction}RGB/{parameter}"] = value
    for name in ("lod", "synthesis/lod"):
        variables.pop(name, None)
    return variables, is_progressive


def _convert(
    class_name: str,
    kwargs: dict[str, Any],
    variables: dict[str, np.ndarray],
    layers: dict[str, str],
    budget: WeightBudget,
) -> torch.nn.Module:
    network = construct(class_name, (), kwargs, budget)
    tensors = {}
    for name, expected in network.state_dict().items():
        if name.endswith("resample_filter"):
            tensors[name] = expected
            continue
        tf_name = _tf_name(name, layers)
        if tf_name not in variables:
            raise UserError(f"TensorFlow network: variable '{tf_name}' is missing")
        value = variables.pop(tf_name)
        if value.size == expected.numel():
            value = _convert_array(name, tf_name, value, expected.shape)
        if value.shape != expected.shape:
            raise UserError(
                f"TensorFlow network: variable '{tf_name}' gives a tensor of shape {list(value.shape)}, "
                f"its settings ask for {list(expected.shape)}"
            )
        tensors[name] = torch.from_numpy(value)
    if variables:
        raise UserError(f"TensorFlow network: no counterpart for variables {_list(variables)}")
    return fill(network, tensors)


def _list(names: Collection[str]) -> str:
    """List names out of a file, escaped for printing."""
    return ascii(", ".join(sorted(names)[:MAX_LISTED])[:200])[1:-1]


def _tf_name(name: str, layers: dict[str, str]) -> str:
    """Translate one of our names: ``synthesis.b8.conv0.affine.bias`` is ``synthesis/8x8/Conv0_up/mod_bias``."""
    if name == "mapping.w_avg":
        return "dlatent_avg"
    noise = re.fullmatch(r"synthesis\.b(\d+)\.conv([01])\.noise_const", name)
    if noise is not None:
        resolution, conv = map(int, noise.groups())
        return f"synthesis/noise{2 * resolution.bit_length() - 7 + conv}"
    for pattern, layer in layers.items():
        match = re.fullmatch(rf"{pattern}\.(?P<affine>affine\.)?(?P<parameter>\w+)", name)
        if match is not None:
            return f"{match.expand(layer)}/{'mod_' if match['affine'] else ''}{match['parameter']}"
    raise AssertionError(f"no layer for {name}")


def _convert_array(name: str, tf_name: str, value: np.ndarray, shape: torch.Size) -> np.ndarray:
    """Bring one variable into the layout of our tensor ``name``; the caller compares the result with ``shape``."""
    if tf_name.endswith("/mod_bias"):
        value = value + 1
    elif value.ndim == 2:
        value = value.T
    elif name.endswith("const"):
        value = value.reshape(shape)  # without the leading axes of size 1
    elif value.ndim == 4:
        if re.fullmatch(r"synthesis/.*/(Conv0_up|Skip)/weight", tf_name):
            value = value[::-1, ::-1]
        value = value.transpose(3, 2, 0, 1)
    with np.errstate(over="ignore"):  # infinite weights are refused later
        return np.array(value, dtype=np.float32, order="C")
