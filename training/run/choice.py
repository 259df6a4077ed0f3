"""The choice of ``--small`` on a machine without a GPU, unless the command line chooses a configuration."""

from __future__ import annotations

import dataclasses
import time

import torch

from dnnlib.formatting import format_number, format_time
from training.run.dataset_info import DatasetInfo
from training.run.flags import Flags
from training.run.memory import RehearsalError, rehearsed
from training.run.options import resolve
from training.run.settings import TrainingSettings

CHOOSING = {"cfg", "small", "cbase", "cmax", "batch_gpu", "gamma", "glr", "dlr", "map_depth", "resume", "freezed"}
"""Flags by which the user chooses a configuration."""

SNAP = 5
"""Ticks between snapshots, so that samples appear before the run ends."""
SCORING = {"metrics", "metrics_ticks", "metricdata", "object_detector"}
"""Flags that ask for scores. Without them none are computed: scoring 50 000 images takes longer than the training."""

TRAINING_EFFICIENCY = 0.25
"""Speed of an iteration relative to that of a large matrix product: a guess, hence "rough"."""
PROBE_SIDE = 512
PROBE_SEC = 0.2


def choose_for_cpu(flags: Flags, device: torch.device) -> Flags:
    """Choose ``--small`` if there is no GPU and the user has not chosen a configuration, else return the same flags."""
    if device.type != "cpu" or CHOOSING.intersection(flags.explicit):
        return flags
    chosen = dataclasses.replace(flags, small=True)
    if {"snap", "tick", "time"}.isdisjoint(flags.explicit):
        chosen = dataclasses.replace(chosen, snap=SNAP)
    if SCORING.isdisjoint(flags.explicit):
        chosen = dataclasses.replace(chosen, metrics=())
    return chosen


def describe_choice(flags: Flags, chosen: Flags, dataset: DatasetInfo, device: torch.device) -> list[str]:
    """Describe in lines what `choose_for_cpu` has chosen, why, and how to choose otherwise; takes up to a minute.

    Args:
        flags: Flags as given.
        chosen: Flags as chosen; none are described if they are the same.
        dataset: Dataset of the run.
        device: Device of the run.
    """
    if chosen == flags:
        return []
    shown = ["--small"]
    shown += [f"--snap={chosen.snap}"] if chosen.snap != flags.snap else []
    shown += ["--metrics=none"] if chosen.metrics != flags.metrics else []
    operations_per_sec = measure_operations_per_sec()
    lines = ["No GPU and no --cfg: rough estimates of what this machine can train"]
    for each, name in ((flags, f"--cfg={flags.cfg}"), (chosen, f"--cfg={flags.cfg} --small")):
        lines.append(f"  {name + ':':<24}{_describe_time(each, dataset, device, operations_per_sec)}")
    lines.append(f"Chosen:     {' '.join(shown)}; --small=0 or --cfg={flags.cfg} trains the full width")
    return lines


def _describe_time(flags: Flags, dataset: DatasetInfo, device: torch.device, operations_per_sec: float) -> str:
    settings = TrainingSettings(**resolve(flags, dataset))
    try:
        rehearsal = rehearsed(settings, dataset, device)
    except RehearsalError:
        return "unknown"
    sec_per_kimg = rehearsal.flops / settings.batch_size * 1000 / (operations_per_sec * TRAINING_EFFICIENCY)
    if flags.time is not None:
        return f"about {format_number(flags.time / sec_per_kimg, 2)} kimg in {format_time(flags.time)}"
    return f"about {format_time(sec_per_kimg * settings.total_kimg)} for {settings.total_kimg:g} kimg"


def measure_operations_per_sec() -> float:
    """Measure the floating-point operations per second of a matrix product in float32, which takes half a second."""
    a = torch.ones([PROBE_SIDE, PROBE_SIDE])
    a @ a  # the first one prepares
    begin_sec, num = time.perf_counter(), 0
    while (sec := time.perf_counter() - begin_sec) < PROBE_SEC or num == 0:
        a @ a
        num += 1
    return num * 2 * PROBE_SIDE**3 / max(sec, 1e-9)
