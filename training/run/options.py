"""From flags to the arguments of the training loop, as pure functions.

The result is what ``training_options.json`` holds; its keys are those of StyleGAN2-ADA (docs/compatibility.md).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dnnlib.commands import how_to_run
from dnnlib.formatting import plural
from training.run.augpipes import AUGPIPES, DEFAULT_AUGPIPE
from training.run.dataset_info import DatasetInfo
from training.run.flags import ADA_TARGET, PRECISIONS, Flags, flag_name
from training.run.presets import Preset, small
from training.run.registry import (
    AnyOption,
    Configuration,
    ExtensionOption,
    augmentations,
    configurations,
    extensions,
    setting_values,
    used_extensions,
)
from training.run.roles import AUGMENTATION, DATASET
from training.run.time_plan import UNLIMITED_KIMG, ticks_per_snapshot

CHANNELS_AT_FULL_WIDTH = 32768
"""channel_base of StyleGAN2's own configuration."""

HALF_RESOLUTIONS = 4
FP16_CLAMP = 256
"""Bound of float16 activations, which the four highest resolutions have (arXiv 2006.06676, appendix D)."""

_NVIDIA = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/transfer-learning-source-nets/"
RESUME_SOURCES: dict[str, str] = {
    "ffhq256": _NVIDIA + "ffhq-res256-mirror-paper256-noaug.pkl",
    "ffhq512": _NVIDIA + "ffhq-res512-mirror-stylegan2-noaug.pkl",
    "ffhq1024": _NVIDIA + "ffhq-res1024-mirror-stylegan2-noaug.pkl",
    "celebahq256": _NVIDIA + "celebahq-res256-mirror-paper256-kimg100000-ada-target0.5.pkl",
    "lsundog256": _NVIDIA + "lsundog-res256-paper256-kimg100000-noaug.pkl",
}
"""Published networks by their ``--resume`` names; their weights come under a license of their own."""
NO_RESUME = "noresume"
"""The value of ``--resume`` for none."""


def resolve(flags: Flags, dataset: DatasetInfo) -> dict[str, Any]:
    """Determine all arguments of the training loop, as JSON values.

    Raises:
        ValueError: Flags contradict each other or the dataset; the text names them.
    """
    if flags.cfg not in configurations():
        raise ValueError(f"--cfg must be one of {', '.join(configurations())}, got {flags.cfg!r}")
    configuration = configurations()[flags.cfg]
    preset = configuration.preset(dataset.resolution, flags.gpus)
    preset = _overridden(small(preset) if flags.small else preset, flags)
    flags = dataclasses.replace(flags, aug=flags.aug or configuration.aug)
    _refuse_unused_settings(flags, configuration)
    flags = dataclasses.replace(flags, settings={**configuration.defaults, **flags.settings})
    kwargs: dict[str, Any] = {
        "num_gpus": flags.gpus,
        "image_snapshot_ticks": _snap(flags),
        "network_snapshot_ticks": _snap(flags),
        "metrics": list(flags.metrics),
        "metrics_ticks": flags.metrics_ticks,
        "random_seed": flags.seed,
        "kimg_per_tick": flags.tick,
        "cudnn_benchmark": not flags.nobench,
        "allow_tf32": flags.allow_tf32,
        "total_kimg": preset.kimg,
        "ema_kimg": preset.ema_kimg,
        "ema_rampup": preset.ramp,
        **_data_kwargs(flags, dataset),
        **_batch_kwargs(flags, preset),
        **_network_kwargs(flags, preset, configuration),
        **({"num_bf16_res": HALF_RESOLUTIONS} if _precision(flags) == "bf16" else {}),
        **_augment_kwargs(flags),
        **_extension_kwargs(flags),
        **configuration.training_kwargs,
    }
    for name in ("time", "metricdata", "object_detector"):
        if (value := getattr(flags, name)) is not None:
            kwargs.update(CHANGES[name](value, kwargs))
    if flags.resume is not None and flags.resume != NO_RESUME:
        kwargs["resume_pkl"] = RESUME_SOURCES.get(flags.resume) or _absolute_if_file(flags.resume)
        kwargs["ada_kimg"] = 100  # so that p catches up with a trained D
        kwargs["ema_rampup"] = None
    options: list[Configuration | ExtensionOption] = [configuration, *used_extensions(flags.settings)]
    for option in options:
        if option.complete is not None:
            option.complete(kwargs)
        if option.check is not None:
            option.check(kwargs)
    return kwargs


CHANGES: dict[str, Callable[[Any, Mapping[str, Any]], dict[str, Any]]] = {
    "data": lambda path, kwargs: {"training_set_kwargs": {**kwargs["training_set_kwargs"], "path": _absolute(path)}},
    "kimg": lambda kimg, _: {"total_kimg": kimg},
    "metricdata": lambda path, kwargs: {"metric_set_kwargs": _metric_set_kwargs(path, kwargs["training_set_kwargs"])},
    "metrics": lambda names, _: {"metrics": list(names)},
    "metrics_ticks": lambda ticks, _: {"metrics_ticks": ticks},
    "nobench": lambda is_off, _: {"cudnn_benchmark": not is_off},
    "object_detector": lambda name, _: {"object_detector": _absolute_if_file(name)},
    "snap": lambda ticks, _: {"image_snapshot_ticks": ticks, "network_snapshot_ticks": ticks},
    "tick": lambda kimg, _: {"kimg_per_tick": kimg},
    "time": lambda sec, _: {"time_limit_sec": sec},
    "workers": lambda num, _: {"data_loader_kwargs": _loader_kwargs(num)},
}
"""Flags that may change when a run is continued, as they do not influence the weights.

(value, arguments of the training loop) -> those of the arguments that change.
"""


def change_options(kwargs: dict[str, Any], given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Apply the flags that may change when a run is continued (docs/training.md).

    Args:
        kwargs: Arguments of the training loop that are stored with the run.
        given: Values of the flags on the command line, by parameter name.

    Returns:
        The new arguments, and the flags that have no effect.
    """
    kwargs = dict(kwargs)
    is_timed = "time" in given or kwargs.get("time_limit_sec") is not None  # such a run plans its ticks
    ignored = [name for name in given if name not in CHANGES or (name == "tick" and is_timed)]
    given = {name: value for name, value in given.items() if name not in ignored}
    if "time" in given and "snap" not in given and _has_planned_snapshots(kwargs):
        given["snap"] = ticks_per_snapshot(given["time"])
    for name, value in given.items():
        kwargs.update(CHANGES[name](value, kwargs))
    return kwargs, [flag_name(name) for name in ignored]


def session_options(flags: Flags) -> dict[str, Any]:
    """Return the arguments of the training loop that are not stored, as each session of a run is given them anew."""
    return {
        "detector_folder": flags.detectors,
        "state_interval_sec": flags.state_minutes * 60,
        "snapshot_formats": flags.snap_format,
        "trust_pickle": flags.trust_pickle,
        "progress": flags.progress,
        "log": flags.log,
        "stop_on": flags.stop_on,
    }


def _has_planned_snapshots(kwargs: Mapping[str, Any]) -> bool:
    """Return whether ``--time`` also sets the ticks between snapshots, which a run with its own ``--snap`` keeps."""
    limit_sec = kwargs.get("time_limit_sec")
    return limit_sec is None or kwargs.get("network_snapshot_ticks") == ticks_per_snapshot(limit_sec)


def _overridden(preset: Preset, flags: Flags) -> Preset:
    if preset.gamma is None and flags.gamma is not None:
        raise ValueError(f"--gamma has no effect with --cfg={flags.cfg}, whose loss has no R1 term")
    given: dict[str, Any] = {
        "gamma": flags.gamma,
        "kimg": UNLIMITED_KIMG if flags.kimg is None and flags.time is not None else flags.kimg,
        "map_depth": flags.map_depth,
        "mbstd": flags.mbstd_group,
        "cmax": flags.cmax,
        "noise": flags.noise,
    }
    return dataclasses.replace(preset, **{name: value for name, value in given.items() if value is not None})


def _snap(flags: Flags) -> int:
    """Return the ticks between snapshots; ``--time`` plans them, unless ``--snap`` is given too."""
    if flags.time is None:
        return flags.snap
    if "tick" in flags.explicit:
        raise ValueError("--tick has no effect with --time, which plans the ticks itself; --snap counts them")
    return flags.snap if "snap" in flags.explicit else ticks_per_snapshot(flags.time)


def _data_kwargs(flags: Flags, dataset: DatasetInfo) -> dict[str, Any]:
    if flags.cond and not dataset.has_labels:
        command = how_to_run("dataset_tool.py", "--source=FOLDER", "--dest=NEW.zip", "--subfolders-as-labels")
        raise ValueError(
            f"--cond=1 needs labels, but {flags.data} has no dataset.json with labels: use --cond=0, or make the "
            f"dataset of folders of classes ({command})"
        )
    if flags.subset is not None and not 1 <= flags.subset <= dataset.num_images:
        raise ValueError(f"--subset must be 1 to {dataset.num_images}, the images in {flags.data}, got {flags.subset}")
    training_set_kwargs: dict[str, Any] = {
        "class_name": DATASET,
        "path": flags.data,
        "use_labels": flags.cond,
        "max_size": flags.subset or dataset.num_images,
        "xflip": flags.mirror,
        "resolution": dataset.resolution,
    }
    if flags.subset is not None and flags.subset < dataset.num_images:
        training_set_kwargs["random_seed"] = flags.seed
    return {"training_set_kwargs": training_set_kwargs, "data_loader_kwargs": _loader_kwargs(flags.workers)}


def _metric_set_kwargs(path: str, training_set_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the dataset that metrics compare with: all of it, with the labels and flips of the training set."""
    shared = {name: training_set_kwargs.get(name) for name in ("use_labels", "xflip", "resolution")}
    return {"class_name": DATASET, "path": _absolute(path), **shared}


def _absolute_if_file(place: str) -> str:
    """Make the path of a file absolute, as a run may be continued from another folder; a URL stays."""
    return _absolute(place) if Path(place).is_file() else place


def _absolute(path: str) -> str:
    return str(Path(path).absolute())


def _loader_kwargs(num_workers: int) -> dict[str, Any]:
    return {"pin_memory": True, "num_workers": num_workers, **({"prefetch_factor": 2} if num_workers > 0 else {})}


def _batch_kwargs(flags: Flags, preset: Preset) -> dict[str, Any]:
    batch = flags.batch or preset.batch
    if batch % flags.gpus != 0:
        raise ValueError(f"--batch={batch} must be a multiple of --gpus={flags.gpus}")
    share = batch // flags.gpus
    if flags.batch_gpu is not None:
        batch_gpu = flags.batch_gpu
    elif flags.batch is not None:
        batch_gpu = share
    elif preset.max_batch_gpu is not None:
        batch_gpu = min(share, preset.max_batch_gpu)
    else:
        batch_gpu = min(preset.batch // preset.ref_gpus, share)
    if share % batch_gpu != 0:
        raise ValueError(
            f"--batch-gpu={batch_gpu} must divide the {plural(share, 'image')} that each process takes of "
            f"--batch={batch} with --gpus={flags.gpus}"
        )
    if batch_gpu % min(preset.mbstd, batch_gpu) != 0:
        raise ValueError(
            f"{batch_gpu} images per pass must be a multiple of the minibatch-std group {preset.mbstd}; "
            "change --batch, --batch-gpu or --mbstd-group"
        )
    return {"batch_size": batch, "batch_gpu": batch_gpu}


def _precision(flags: Flags) -> str:
    """Return one of `PRECISIONS`, chosen by ``--precision`` or by the older ``--fp32``."""
    if flags.precision is None:
        return "fp32" if flags.fp32 else "fp16"
    if flags.precision not in PRECISIONS:
        raise ValueError(f"--precision must be one of {', '.join(PRECISIONS)}, got {flags.precision[:100]!a}")
    if (flags.fp32 or "fp32" in flags.explicit) and flags.fp32 != (flags.precision == "fp32"):
        raise ValueError(f"--fp32={flags.fp32:d} contradicts --precision={flags.precision}; give one of the two")
    return flags.precision


def _network_kwargs(flags: Flags, preset: Preset, configuration: Configuration) -> dict[str, Any]:
    """Return the arguments of networks, loss and optimizers."""
    return {
        "G_kwargs": _generator_kwargs(flags, preset, configuration),
        "D_kwargs": _discriminator_kwargs(flags, preset, configuration),
        "G_opt_kwargs": _optimizer_kwargs(flags.glr or preset.lr),
        "D_opt_kwargs": _optimizer_kwargs(flags.dlr or preset.lr),
        "loss_kwargs": _loss_kwargs(flags, preset, configuration),
    }


def _capacity_kwargs(flags: Flags, preset: Preset) -> dict[str, Any]:
    """Return what G and D have in common: their width and their precision."""
    is_fp16 = _precision(flags) == "fp16"
    return {
        "channel_base": flags.cbase or int(preset.fmaps * CHANNELS_AT_FULL_WIDTH),
        "channel_max": preset.cmax,
        "num_fp16_res": HALF_RESOLUTIONS if is_fp16 else 0,
        "conv_clamp": FP16_CLAMP if is_fp16 else None,
    }


def _generator_kwargs(flags: Flags, preset: Preset, configuration: Configuration) -> dict[str, Any]:
    synthesis_kwargs = _capacity_kwargs(flags, preset)
    if not preset.noise:
        synthesis_kwargs["use_noise"] = False
    if flags.nhwc:
        synthesis_kwargs["fp16_channels_last"] = True
    return {
        "class_name": configuration.generator,
        "z_dim": preset.z_dim,
        "w_dim": preset.w_dim or preset.z_dim,
        "mapping_kwargs": {"num_layers": preset.map_depth},
        "synthesis_kwargs": synthesis_kwargs,
        **setting_values(configuration.G_settings, flags.settings),
    }


def _discriminator_kwargs(flags: Flags, preset: Preset, configuration: Configuration) -> dict[str, Any]:
    block_kwargs: dict[str, Any] = {}
    if flags.nhwc:
        block_kwargs["fp16_channels_last"] = True
    if flags.freezed is not None:
        block_kwargs["freeze_layers"] = flags.freezed
    kwargs = {
        "class_name": configuration.discriminator,
        "block_kwargs": block_kwargs,
        "mapping_kwargs": {},
        "epilogue_kwargs": {"mbstd_group_size": preset.mbstd},
        **_capacity_kwargs(flags, preset),
        **configuration.D_kwargs,
    }
    if preset.d_architecture != Preset.d_architecture:
        kwargs["architecture"] = preset.d_architecture
    return {**kwargs, **setting_values(configuration.D_settings, flags.settings)}


def _loss_kwargs(flags: Flags, preset: Preset, configuration: Configuration) -> dict[str, Any]:
    kwargs = {"class_name": configuration.loss, **configuration.loss_kwargs}
    if preset.gamma is not None:
        kwargs["r1_gamma"] = preset.gamma
        for name in ("pl_weight", "style_mixing_prob"):
            if getattr(preset, name) != getattr(Preset, name):
                kwargs[name] = getattr(preset, name)
    return {**kwargs, **setting_values(configuration.loss_settings, flags.settings)}


def _optimizer_kwargs(lr: float) -> dict[str, Any]:
    return {"class_name": "torch.optim.Adam", "betas": [0.0, 0.99], "eps": 1e-8, "lr": lr}


def _refuse_unused_settings(flags: Flags, configuration: Configuration) -> None:
    for name in ("metrics_ticks", "metricdata", "object_detector"):
        if getattr(flags, name) is not None and not flags.metrics:
            raise ValueError(f"{flag_name(name)} has no effect with --metrics=none")
    owners: list[tuple[str, AnyOption, bool]]
    owners = [(f"--cfg={name}", option, option is configuration) for name, option in configurations().items()]
    owners += [(f"--aug={name}", option, flags.aug == name) for name, option in augmentations().items()]
    owners += [(f"--{name}", option, option.is_used(flags.settings)) for name, option in extensions().items()]
    for name in flags.settings:
        users = {shown: is_used for shown, option, is_used in owners if name in option.settings}
        # A setting that bears the name of an extension may switch it off, which is not an error.
        if not any(users.values()) and name not in extensions():
            given = f"--aug={flags.aug}" if all(user.startswith("--aug=") for user in users) else f"--cfg={flags.cfg}"
            raise ValueError(f"{flag_name(name)} has no effect with {given}; it belongs to {', '.join(users)}")


def _extension_kwargs(flags: Flags) -> dict[str, Any]:
    used = [
        {"class_name": option.class_name, **setting_values(option.settings_class, flags.settings)}
        for option in used_extensions(flags.settings)
    ]
    return {"extension_kwargs": used} if used else {}


def _augment_kwargs(flags: Flags) -> dict[str, Any]:
    if flags.p is not None and flags.aug != "fixed":
        raise ValueError(f"--p needs --aug=fixed, got --aug={flags.aug}")
    if flags.aug == "fixed" and flags.p is None:
        raise ValueError("--aug=fixed needs --p, the probability of augmentation")
    if flags.target is not None and flags.aug != "ada":
        raise ValueError(f"--target needs --aug=ada, got --aug={flags.aug}")
    if "ada_max_p" in flags.explicit and flags.aug != "ada":
        raise ValueError(f"--ada-max-p needs --aug=ada, got --aug={flags.aug}")
    if flags.aug == "noaug":
        if flags.augpipe is not None:
            raise ValueError("--augpipe has no effect with --aug=noaug")
        return {}
    if flags.aug in augmentations():
        if flags.augpipe is not None:
            raise ValueError(f"--augpipe has no effect with --aug={flags.aug}")
        option = augmentations()[flags.aug]
        values = setting_values(option.settings_class, flags.settings)
        return {"augment_kwargs": {"class_name": option.class_name, **values}, "augment_p": 1.0}
    transforms = AUGPIPES[flags.augpipe or DEFAULT_AUGPIPE]
    kwargs: dict[str, Any] = {"augment_kwargs": {"class_name": AUGMENTATION, **dict.fromkeys(transforms, 1)}}
    if flags.aug == "ada":
        kwargs["ada_target"] = ADA_TARGET if flags.target is None else flags.target
        kwargs["ada_max_p"] = None if math.isinf(flags.ada_max_p) else flags.ada_max_p  # JSON has no infinity
    else:
        kwargs["augment_p"] = flags.p
    return kwargs
