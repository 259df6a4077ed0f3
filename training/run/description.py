"""The flags of a run in the name of its folder."""

from __future__ import annotations

from training.run.dataset_info import DatasetInfo
from training.run.flags import Flags
from training.run.options import NO_RESUME, RESUME_SOURCES
from training.run.registry import configurations, used_extensions
from training.run.time_plan import time_name


def describe_flags(flags: Flags, dataset: DatasetInfo) -> str:
    """Return what follows the number in the name of a run folder.

    Args:
        flags: Flags that `training.run.options.resolve` accepts.
        dataset: Dataset of the run.

    Raises:
        ValueError: ``--desc`` cannot be part of it.
    """
    if flags.desc is not None and (not flags.desc.isprintable() or "/" in flags.desc):
        raise ValueError(f"--desc={flags.desc[:100]!a} is part of a folder name: use printable characters without /")
    parts = [dataset.name]
    parts += ["cond"] * flags.cond
    parts += [f"subset{flags.subset}"] * (flags.subset is not None)
    parts += ["mirror"] * flags.mirror
    parts += [f"{flags.cfg}{flags.gpus if flags.cfg == 'auto' else ''}"]
    parts += ["small"] * flags.small
    parts += [f"gamma{flags.gamma:g}"] if flags.gamma is not None else []
    parts += [f"kimg{flags.kimg}"] if flags.kimg is not None else []
    parts += [time_name(flags.time)] if flags.time is not None else []
    parts += [f"batch{flags.batch}"] if flags.batch is not None else []
    configuration = configurations()[flags.cfg]
    is_default = flags.aug in (None, configuration.aug) and "aug" not in flags.explicit
    parts += [] if is_default else [str(flags.aug)]
    parts += [option.name for option in used_extensions({**configuration.defaults, **flags.settings})]
    parts += [f"p{flags.p:g}"] if flags.p is not None else []
    parts += [f"target{flags.target:g}"] if flags.target is not None else []
    parts += [flags.augpipe] if flags.augpipe is not None else []
    if flags.resume is not None:
        known = flags.resume == NO_RESUME or flags.resume in RESUME_SOURCES
        parts += [f"{'' if flags.resume == NO_RESUME else 'resume'}{flags.resume if known else 'custom'}"]
    parts += [f"freezed{flags.freezed}"] if flags.freezed is not None else []
    parts += [flags.precision] if flags.precision not in (None, "fp16") else []
    parts += [flags.desc] if flags.desc else []
    return "-".join(parts)
