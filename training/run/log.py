"""What a run tells: the status line, ``stats.jsonl`` and TensorBoard events."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from dnnlib.util import format_time
from torch_utils import training_stats


@dataclass(frozen=True)
class TickTimes:
    """Where the time of one tick went, in seconds."""

    total: float
    """Since the run began, continuations included."""
    tick: float
    """Training alone."""
    maintenance: float
    """Between this tick and the one before: snapshots, metrics, states."""
    data_wait: float
    """The part of ``tick`` spent waiting for images."""


def report_tick(
    cur_tick: int,
    cur_nimg: int,
    tick_nimg: int,
    total_nimg: int,
    augment: float,
    times: TickTimes,
    device: torch.device,
) -> str:
    """Report the progress of a finished tick to `training_stats`, and describe it in one line.

    The fields up to 'augment' and their order are StyleGAN2-ADA's (CONTRACT 8); ours follow them.
    """
    kimg = cur_nimg / 1000
    sec_per_kimg = times.tick / tick_nimg * 1000
    cpu_gib = psutil.Process(os.getpid()).memory_info().rss / 2**30
    gpu_gib = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
    data_wait = times.data_wait / times.tick
    eta_sec = max(total_nimg - cur_nimg, 0) / 1000 * sec_per_kimg
    values = {
        "Progress/tick": cur_tick,
        "Progress/kimg": kimg,
        "Progress/augment": augment,
        "Timing/total_sec": times.total,
        "Timing/sec_per_tick": times.tick,
        "Timing/sec_per_kimg": sec_per_kimg,
        "Timing/maintenance_sec": times.maintenance,
        "Timing/total_hours": times.total / 3600,
        "Timing/total_days": times.total / 86400,
        "Timing/data_wait_frac": data_wait,
        "Resources/cpu_mem_gb": cpu_gib,
        "Resources/peak_gpu_mem_gb": gpu_gib,
    }
    for name, value in values.items():
        training_stats.report0(name, value)
    fields = [
        f"tick {cur_tick:<5d}",
        f"kimg {kimg:<8.1f}",
        f"time {format_time(times.total):<12s}",
        f"sec/tick {times.tick:<7.1f}",
        f"sec/kimg {sec_per_kimg:<7.2f}",
        f"maintenance {times.maintenance:<6.1f}",
        f"cpumem {cpu_gib:<6.2f}",
        f"gpumem {gpu_gib:<6.2f}",
        f"augment {augment:.3f}",
        f"eta {format_time(eta_sec):<10s}",
        f"data {data_wait:.1%}",
    ]
    return " ".join(fields)


class RunLog:
    """``stats.jsonl`` and, where TensorBoard is installed, event files of one run; written by rank 0.

    Args:
        run_dir: Run folder.
        num_bytes: Length of ``stats.jsonl`` to go on from; what stands behind it is from ticks that will be run again.
        cur_nimg: Images seen so far, likewise for event files.
    """

    def __init__(self, run_dir: Path, num_bytes: int, cur_nimg: int) -> None:
        path = run_dir / "stats.jsonl"
        self._file = open(path, "ab")  # noqa: SIM115 (closed by `close`)
        self._file.truncate(min(num_bytes, self.num_bytes))
        self._events = _open_events(run_dir, cur_nimg)

    @property
    def num_bytes(self) -> int:
        """Length of ``stats.jsonl`` so far."""
        return self._file.seek(0, os.SEEK_END)

    def write(self, cur_nimg: int, stats: training_stats.Collector) -> None:
        """Add the statistics of one tick."""
        timestamp = time.time()
        line = json.dumps({**stats.as_dict(), "timestamp": timestamp})
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())  # a state that is saved next counts on this line
        if self._events is not None:
            for name in stats.names():
                self._events.add_scalar(name, stats[name], global_step=cur_nimg // 1000, walltime=timestamp)
            self._events.flush()

    def write_metrics(self, cur_nimg: int, results: dict[str, float]) -> None:
        """Add metric values to the event file; ``metrics.metric_main`` writes them to their own files."""
        if self._events is not None:
            for name, value in results.items():
                self._events.add_scalar(f"Metrics/{name}", value, global_step=cur_nimg // 1000)
            self._events.flush()

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._events is not None:
            self._events.close()


def _open_events(run_dir: Path, cur_nimg: int) -> Any | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(run_dir), purge_step=cur_nimg // 1000 if cur_nimg else None)
