"""Time and memory of a training iteration on a CPU, next to the time of its convolutions alone.

``python -m benchmarks.train_step --res 32 --cbase 4096 --batch 16``, with further flags of ``train.py``, runs the
phases of the real loop: the real loss, the clean-up of gradients and the optimizer step, with augmentation bgc at
p = 0.3 unless a flag says otherwise. As in training, activations are clamped, and a CPU computes in float32. Phase,
floor and, if something else is measured, StyleGAN2's phase alternate, so that whatever else the machine does hits all.
"""

from __future__ import annotations

import functools
import json
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import click
import torch

from benchmarks.convolution_floor import record_convolutions
from benchmarks.iteration import Iteration, build_iteration, parse_flags
from torch_utils.host_memory import keep_freed_memory
from training.run.registry import configurations

BASELINE = "stylegan2"
AROUND = "around"
"""What the loss and its extensions do before and after the phases."""

Works = dict[str, Callable[[], None]]


def make_iteration(flags: Sequence[str], resolution: int) -> Iteration:
    """Construct what the flags of ``train.py`` ask for."""
    return build_iteration(parse_flags(flags), resolution, torch.device("cpu"))


def make_work(iteration: Iteration) -> Works:
    """Return a function per phase that runs it on fixed inputs, and one for what is around them."""
    phases: Works = {phase.name: functools.partial(iteration.run, phase) for phase in iteration.phases}
    return {**phases, AROUND: iteration.run_around}


def iteration_sec(iteration: Iteration, seconds: dict[str, float]) -> float:
    """Return the seconds per iteration: phases of lazy regularization are not in each."""
    return seconds[AROUND] + sum(seconds[phase.name] / phase.interval for phase in iteration.phases)


def measure(works: Works, repeats: int, clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Return median seconds of each, measured in turn; each runs twice, so that none pays for the heap another left."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            work()
            begin = clock()
            work()
            times[name].append(clock() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def peak_memory_gib() -> float:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux


def in_turn(works: Works, floors: Works, others: Works) -> Works:
    """Return all under names of their own: each next to its floor, and to the other one in its place."""
    pairs = zip_longest(works.items(), others.items())
    return {
        key: work
        for own, other in pairs
        for key, work in (
            *([own, (f"floor {own[0]}", floors[own[0]])] if own else ()),
            *([(f"{BASELINE} {other[0]}", other[1])] if other else ()),
        )
    }


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--res", "resolution", type=int, default=32, show_default=True)
@click.option("--cbase", type=int, default=4096, show_default=True)
@click.option("--batch", type=int, default=16, show_default=True)
@click.option("--small", is_flag=True, help="The capacity of --small instead of --cbase.")
@click.option("--cfg", type=click.Choice(list(configurations())), default=BASELINE, show_default=True)
@click.option("--repeats", type=int, default=7, show_default=True)
@click.option("--threads", type=int, default=2, show_default=True)
@click.option("--cpu-time", is_flag=True, help="Measure CPU time: with one thread, less depends on other processes.")
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def main(
    resolution: int,
    cbase: int,
    batch: int,
    small: bool,
    cfg: str,
    repeats: int,
    threads: int,
    cpu_time: bool,
    flags: tuple[str, ...],
) -> None:
    """Measure, and print one JSON line; FLAGS are further flags of train.py."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    torch.manual_seed(0)
    size = [f"--batch={batch}", *(["--small"] if small else [f"--cbase={cbase}", "--map-depth=8"])]
    iteration = make_iteration([*size, f"--cfg={cfg}", *flags], resolution)
    works = make_work(iteration)
    for _ in range(3):
        for work in works.values():
            work()
    peak_gib = peak_memory_gib()  # before anything that is only for comparison

    floors = {name: record_convolutions(work) for name, work in works.items()}
    baseline = make_iteration([*size, f"--cfg={BASELINE}"], resolution) if cfg != BASELINE or flags else None
    others = {} if baseline is None else make_work(baseline)
    for work in (*floors.values(), *others.values()):
        work()
    seconds = measure(in_turn(works, floors, others), repeats, time.process_time if cpu_time else time.perf_counter)

    def part(prefix: str, names: Works = works) -> dict[str, float]:
        return {name: seconds[prefix + name] for name in names}

    total_sec, floor_sec = (iteration_sec(iteration, part(prefix)) for prefix in ("", "floor "))
    result = {
        "cfg": cfg,
        "flags": list(flags),
        "res": resolution,
        "cbase": None if small else cbase,
        "batch": batch,
        "phase_sec": part(""),
        "iteration_sec": total_sec,
        "images_per_sec": batch / total_sec,
        "peak_memory_gib": peak_gib,
        "floor_sec": floor_sec,
        "floor_phase_sec": part("floor "),
        "step_per_floor": total_sec / floor_sec,
        "threads": threads,
        "torch": torch.__version__,
    }
    if baseline is not None:
        result[f"step_per_{BASELINE}"] = total_sec / iteration_sec(baseline, part(f"{BASELINE} ", others))
    print(json.dumps(_rounded(result)))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
