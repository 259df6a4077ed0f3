"""The status line of a tick with the statistics in it, and the pace of a run in words."""

from __future__ import annotations

import os

import psutil
import torch

from dnnlib.formatting import format_number, format_time
from torch_utils import training_stats
from training.run.counters import Counters


def report_tick(
    counters: Counters, elapsed_sec: float, total_nimg: float, augment_p: float, device: torch.device
) -> str:
    """Report the progress of a finished tick to `training_stats`, and describe it in one line.

    The fields up to 'augment' and their order are those of StyleGAN2-ADA (docs/compatibility.md); ours follow them.

    Args:
        counters: Progress of the run, the tick included.
        elapsed_sec: Seconds since the run began, over all its sessions.
        total_nimg: Length of the run in images.
        augment_p: Probability of augmentation.
        device: Device of this process.
    """
    kimg = counters.cur_nimg / 1000
    sec_per_kimg = counters.tick_sec / (counters.cur_nimg - counters.tick_start_nimg) * 1000
    cpu_gib = psutil.Process(os.getpid()).memory_info().rss / 2**30
    gpu_gib = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
    data_wait = counters.data_wait_sec / counters.tick_sec
    eta_sec = max(total_nimg - counters.cur_nimg, 0) / 1000 * sec_per_kimg
    values = {
        "Progress/tick": counters.cur_tick,
        "Progress/kimg": kimg,
        "Progress/augment": augment_p,
        "Timing/total_sec": elapsed_sec,
        "Timing/sec_per_tick": counters.tick_sec,
        "Timing/sec_per_kimg": sec_per_kimg,
        "Timing/maintenance_sec": counters.maintenance_sec,
        "Timing/total_hours": elapsed_sec / 3600,
        "Timing/total_days": elapsed_sec / 86400,
        "Timing/data_wait_frac": data_wait,
        "Resources/cpu_mem_gb": cpu_gib,
        "Resources/peak_gpu_mem_gb": gpu_gib,
    }
    for name, value in values.items():
        training_stats.report0(name, value)
    columns = [
        f"tick {counters.cur_tick:<5d}",
        f"kimg {kimg:<8.1f}",
        f"time {format_time(elapsed_sec):<12s}",
        f"sec/tick {counters.tick_sec:<7.1f}",
        f"sec/kimg {sec_per_kimg:<7.2f}",
        f"maintenance {counters.maintenance_sec:<6.1f}",
        f"cpumem {cpu_gib:<6.2f}",
        f"gpumem {gpu_gib:<6.2f}",
        f"augment {augment_p:.3f}",
        f"eta {format_time(eta_sec):<10s}",
        f"data {data_wait:.1%}",
    ]
    return " ".join(columns)


def describe_pace(sec_per_kimg: float, kimg_left: float, kimg_to_snapshot: float | None, is_timed: bool = False) -> str:
    """Describe in one line the pace of a run, how long it will take, and the flags that set this.

    Args:
        sec_per_kimg: Its pace.
        kimg_left: What is left of its length.
        kimg_to_snapshot: What is left until the next snapshot; None if there are none.
        is_timed: Whether ``--time`` limits it and plans its ticks.
    """
    left = format_time(sec_per_kimg * kimg_left)
    line = f"About {format_number(sec_per_kimg, 3)} s per kimg: {left} for the {kimg_left:g} kimg left"
    if kimg_to_snapshot is not None and kimg_to_snapshot < kimg_left:
        line += f", {format_time(sec_per_kimg * kimg_to_snapshot)} to the next samples and snapshot"
    flags = "--time sets the length; --snap sets" if is_timed else "--kimg sets the length; --tick and --snap set"
    return f"{line}. {flags} how often snapshots are saved."
