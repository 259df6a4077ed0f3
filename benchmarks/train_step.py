"""Time and memory of a training iteration on a CPU, next to the time of its convolutions alone.

``python -m benchmarks.train_step --res 32 --cbase 4096 --batch 16`` runs the phases of the real loop: the real loss,
the clean-up of gradients and the optimizer step, with augmentation bgc at p = 0.3. As in training, activations are
clamped, and a CPU computes in float32. Phase and floor alternate, so that whatever else the machine does hits both.
"""

from __future__ import annotations

import functools
import json
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import click
import torch

from benchmarks.convolution_floor import record_convolutions
from benchmarks.iteration import build_iteration
from torch_utils.host_memory import keep_freed_memory
from training.run.options import Flags
from training.run.registry import configurations

BASELINE = "stylegan2"


def make_work(cfg: str, resolution: int, channel_base: int, batch: int) -> dict[str, Callable[[], None]]:
    """Return a function per phase that runs it on fixed inputs."""
    flags = Flags(data="", cfg=cfg, cbase=channel_base, batch=batch, map_depth=8, aug="fixed", p=0.3)
    iteration = build_iteration(flags, resolution, torch.device("cpu"))
    return {phase.name: functools.partial(iteration.run, phase) for phase in iteration.phases}


def iteration_sec(phase_sec: dict[str, float]) -> float:
    """Seconds per iteration with lazy regularisation."""
    return phase_sec["Gmain"] + phase_sec["Greg"] / 4 + phase_sec["Dmain"] + phase_sec["Dreg"] / 16


def measure(works: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median seconds of each, measured in turn; each runs twice, so that none pays for the heap another has left."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            work()
            begin = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def peak_memory_gib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux


@click.command()
@click.option("--res", "resolution", type=int, default=32, show_default=True)
@click.option("--cbase", type=int, default=4096, show_default=True)
@click.option("--batch", type=int, default=16, show_default=True)
@click.option("--cfg", type=click.Choice(list(configurations())), default=BASELINE, show_default=True)
@click.option("--repeats", type=int, default=7, show_default=True)
@click.option("--threads", type=int, default=2, show_default=True)
def main(resolution: int, cbase: int, batch: int, cfg: str, repeats: int, threads: int) -> None:
    """Measure, and print one JSON line."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    torch.manual_seed(0)
    works = make_work(cfg, resolution, cbase, batch)
    for _ in range(3):
        for work in works.values():
            work()
    peak_gib = peak_memory_gib()  # before anything that is only for comparison

    floors = {f"floor {name}": record_convolutions(work) for name, work in works.items()}
    others = {}
    if cfg != BASELINE:
        others = {f"{BASELINE} {name}": work for name, work in make_work(BASELINE, resolution, cbase, batch).items()}
    for work in (*floors.values(), *others.values()):
        work()
    together = {}
    for name in works:
        for key, work in (*works.items(), *floors.items(), *others.items()):
            if key.endswith(name):
                together[key] = work
    seconds = measure(together, repeats)

    def part(prefix: str) -> dict[str, float]:
        return {name: seconds[prefix + name] for name in works}

    iteration, floor = iteration_sec(part("")), iteration_sec(part("floor "))
    result = {
        "cfg": cfg,
        "res": resolution,
        "cbase": cbase,
        "batch": batch,
        "phase_sec": part(""),
        "iteration_sec": iteration,
        "images_per_sec": batch / iteration,
        "peak_memory_gib": peak_gib,
        "floor_sec": floor,
        "floor_phase_sec": part("floor "),
        "step_per_floor": iteration / floor,
        "threads": threads,
        "torch": torch.__version__,
    }
    if others:
        result[f"step_per_{BASELINE}"] = iteration / iteration_sec(part(f"{BASELINE} "))
    print(json.dumps(_rounded(result)))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
