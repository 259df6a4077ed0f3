"""Parts of ``benchmarks.gpu`` that run the phases of training: speed, memory, launches, what MsConD costs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity

from benchmarks.gpu_cost import trace
from benchmarks.gpu_operations import Setup
from benchmarks.iteration import Iteration, build_iteration, parse_flags
from benchmarks.timing import seconds_of
from torch_utils.training_stats import Collector

SIZE_PX, QUICK_SIZE_PX = 256, 32
QUICK_FLAGS = ("--cbase=128", "--map-depth=2")


def prepare(setup: Setup, cfg: str, batch_gpu: int) -> Iteration:
    """Construct an iteration, and let it find its algorithms and compile its kernels."""
    iteration = build_iteration(parse_flags(_flags(setup, cfg, batch_gpu)), _size_px(setup), setup.device)
    torch.backends.cudnn.benchmark = iteration.settings.cudnn_benchmark
    for _ in range(1 if setup.is_quick else 3):
        for phase in iteration.phases:
            iteration.run(phase)
    return iteration


def _flags(setup: Setup, cfg: str, batch_gpu: int) -> Sequence[str]:
    return [f"--cfg={cfg}", f"--batch-gpu={batch_gpu}", *(QUICK_FLAGS if setup.is_quick else ())]


def _size_px(setup: Setup) -> int:
    return QUICK_SIZE_PX if setup.is_quick else SIZE_PX


def measure_training(setup: Setup, cfg: str, batch_gpu: int) -> dict[str, Any]:
    """Time the phases, and note the most memory that they needed; loading images and the average of G are left out."""
    collector = Collector()  # statistics are part of the work only if someone listens
    iteration = prepare(setup, cfg, batch_gpu)
    phase_sec = _alternate(setup, {"": iteration})[""]
    del collector
    figures = {"phase_sec": phase_sec, "sec_per_kimg": _iteration_sec(iteration, phase_sec) / batch_gpu * 1000}
    if setup.device.type == "cuda":
        figures["peak_gib"] = torch.cuda.max_memory_allocated(setup.device) / 2**30
    return figures


def measure_ratio(setup: Setup, cfg: str, baseline: str, batch_gpu: int) -> dict[str, float]:
    """Time two configurations in turn, and divide."""
    iterations = {name: prepare(setup, name, batch_gpu) for name in (cfg, baseline)}
    phase_sec = _alternate(setup, iterations)
    seconds = {name: _iteration_sec(iterations[name], phase_sec[name]) for name in iterations}
    return {**{f"{name}_sec": value for name, value in seconds.items()}, "ratio": seconds[cfg] / seconds[baseline]}


def _alternate(setup: Setup, iterations: dict[str, Iteration]) -> dict[str, dict[str, float]]:
    """Return the median seconds of each phase, from rounds in which all take turns."""
    times: dict[str, dict[str, list[float]]] = {name: {} for name in iterations}
    for _ in range(1 if setup.is_quick else 7):
        for name, iteration in iterations.items():
            for phase in iteration.phases:
                seconds = seconds_of(lambda: iteration.run(phase), setup.device)  # noqa: B023 -- called at once
                times[name].setdefault(phase.name, []).append(seconds)
    return {name: {phase: statistics.median(values) for phase, values in rows.items()} for name, rows in times.items()}


def _iteration_sec(iteration: Iteration, phase_sec: dict[str, float]) -> float:
    return sum(phase_sec[phase.name] / phase.interval for phase in iteration.phases)


def compare_launches(setup: Setup, cfg: str, batch_gpu: int) -> dict[str, dict[str, float]]:
    """Return, for each phase, the launches that a profiler sees and those that `benchmarks.gpu_cost` counts."""
    collector = Collector()
    counted = trace(parse_flags(_flags(setup, cfg, batch_gpu)), _size_px(setup))
    launches = dict.fromkeys(counted.weights, 0)
    for call in counted.calls:
        launches[call.phase] += call.launches
    iteration = prepare(setup, cfg, batch_gpu)
    profiled = {phase.name: profiled_launches(iteration, phase.name) for phase in iteration.phases}
    del collector
    return {name: {"profiled": profiled[name], "counted": launches[name]} for name in launches}


def profiled_launches(iteration: Iteration, phase_name: str) -> int:
    """Return how many kernels, copies and fills a phase starts on the GPU."""
    (phase,) = (phase for phase in iteration.phases if phase.name == phase_name)
    device = torch.device(iteration.settings.device)
    activity = ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity]) as profile:
        seconds_of(lambda: iteration.run(phase), device)
    return sum(event.device_type == DeviceType.CUDA for event in profile.events())
