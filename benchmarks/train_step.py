"""Time and memory of a training iteration on a CPU, next to the time of its convolutions alone.

``python -m benchmarks.train_step --res 32 --cbase 4096 --batch 16`` runs the phases of the real loop: the real loss,
the clean-up of gradients and the optimizer step, in float32, with augmentation bgc at p = 0.3. Phase and floor
alternate, so that whatever else the machine does hits both.
"""

from __future__ import annotations

import json
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import click
import torch

from benchmarks.convolution_floor import record_convolutions
from dnnlib.util import construct_class_by_name
from torch_utils.host_memory import keep_freed_memory
from training.phases import Phase, Round, make_phases
from training.run.options import DatasetInfo, Flags, resolve
from training.run.registry import configurations

BASELINE = "stylegan2"


def make_work(cfg: str, resolution: int, channel_base: int, batch: int) -> dict[str, Callable[[], None]]:
    """A function per phase that runs it on fixed inputs."""
    flags = Flags(data="", cfg=cfg, cbase=channel_base, batch=batch, map_depth=8, fp32=True, aug="fixed", p=0.3)
    _description, kwargs = resolve(flags, DatasetInfo("random", resolution, batch, has_labels=False))
    common: dict[str, Any] = {"c_dim": 0, "img_resolution": resolution, "img_channels": 3}
    G: Any = construct_class_by_name(**kwargs["G_kwargs"], **common).train().requires_grad_(False)
    D: Any = construct_class_by_name(**kwargs["D_kwargs"], **common).train().requires_grad_(False)
    pipe: Any = construct_class_by_name(**kwargs["augment_kwargs"]).train()
    pipe.p.fill_(kwargs["augment_p"])
    networks: dict[str, Any] = {"G_mapping": G.mapping, "G_synthesis": G.synthesis, "D": D, "augment_pipe": pipe}
    loss: Any = construct_class_by_name(device=torch.device("cpu"), **networks, **kwargs["loss_kwargs"])
    no_labels = torch.zeros([batch, 0])
    inputs = [
        Round(
            torch.rand([batch, 3, resolution, resolution]) * 2 - 1, no_labels, torch.randn([batch, G.z_dim]), no_labels
        )
    ]

    def work(phase: Phase) -> Callable[[], None]:
        return lambda: phase.run(loss, inputs)

    phases = make_phases("G", G, kwargs["G_opt_kwargs"], 4) + make_phases("D", D, kwargs["D_opt_kwargs"], 16)
    return {phase.name: work(phase) for phase in phases}


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
