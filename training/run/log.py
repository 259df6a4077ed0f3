"""The output of a run: console lines, ``stats.jsonl`` and TensorBoard events."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import psutil
import torch
from tqdm import tqdm

from dnnlib.util import format_number, format_time
from torch_utils import training_stats
from training.data.overview import overview
from training.run.events import EventFiles
from training.run.stats_file import STATS_FILE
from training.run.wandb_run import WandbRun

SILENCE_SEC = 10.0
"""Longest time without output on a terminal, and anywhere at the beginning of a run."""
LATER_SILENCE_SEC = 60.0
"""Longest time without output to a file, once the run has lasted this long."""


class Console:
    """Lines, a progress bar and heartbeats, on the main process only.

    Args:
        is_main: Whether this process prints at all.
        progress: 'plain' for lines, 'auto' for a bar as well if there is a terminal, 'none' for nothing.
    """

    def __init__(self, is_main: bool, progress: str) -> None:
        self._is_verbose = is_main and progress != "none"
        self._terminal = sys.__stderr__  # not the copy that goes into the log file
        is_terminal = self._terminal is not None and self._terminal.isatty()
        self._has_bar = is_main and progress == "auto" and is_terminal
        self._max_silence_sec = SILENCE_SEC if is_terminal else LATER_SILENCE_SEC
        self._bar: tqdm | None = None
        self._activity = ""
        self._begin_sec = self._activity_sec = self._last_sec = time.monotonic()

    def say(self, line: str) -> None:
        """Print a line, above the bar."""
        self._last_sec = time.monotonic()
        if self._is_verbose:
            with suppress(OSError), tqdm.external_write_mode(file=self._terminal):  # the terminal may have been closed
                print(line, flush=True)

    @contextmanager
    def doing(self, activity: str) -> Iterator[None]:
        """Name what the process is doing within the context, for the heartbeat."""
        before = self._activity, self._activity_sec
        self._activity, self._activity_sec = activity, time.monotonic()
        try:
            yield
        finally:
            self._activity, self._activity_sec = before

    @contextmanager
    def running(self, total_nimg: float | None, cur_nimg: int) -> Iterator[None]:
        """Show a bar that `advance` moves, and a heartbeat, while the context lasts.

        Args:
            total_nimg: Length of the run in images; None if it is limited by time.
            cur_nimg: Images seen so far.
        """
        is_over = threading.Event()
        thread = threading.Thread(target=self._print_heartbeats, args=(is_over,), daemon=True)
        with tqdm(
            total=total_nimg,
            initial=cur_nimg,
            unit="img",
            file=self._terminal,
            leave=False,
            disable=not self._has_bar,
        ) as self._bar:
            if self._is_verbose:
                thread.start()
            try:
                yield
            finally:
                is_over.set()
                if self._is_verbose:
                    thread.join()

    def advance(self, nimg: int) -> None:
        """Count images as done."""
        if self._bar is not None:
            self._bar.update(nimg)

    def _print_heartbeats(self, is_over: threading.Event) -> None:
        while not is_over.wait(1.0):
            now = time.monotonic()
            limit_sec = SILENCE_SEC if now - self._begin_sec < LATER_SILENCE_SEC else self._max_silence_sec
            if now - self._last_sec >= limit_sec - 1.0:
                self._last_sec = now
                line = f"  {self._activity} ({format_time(now - self._activity_sec)})"
                with suppress(OSError, ValueError), tqdm.external_write_mode(file=self._terminal):
                    if sys.__stdout__ is not None:  # print would take sys.stdout, which goes into the log file
                        print(line, file=sys.__stdout__, flush=True)


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


@dataclass(frozen=True)
class TickTimes:
    """How the time of one tick was spent."""

    total: float
    """Seconds since the run began, over all its sessions."""
    tick: float
    """Seconds of training alone."""
    maintenance: float
    """Seconds between the previous tick and this one: snapshots, metrics, checkpoints."""
    data_wait: float
    """Seconds of ``tick`` spent waiting for images."""


def report_tick(
    cur_tick: int,
    cur_nimg: int,
    tick_nimg: int,
    total_nimg: float,
    augment: float,
    times: TickTimes,
    device: torch.device,
) -> str:
    """Report the progress of a finished tick to `training_stats`, and describe it in one line.

    The fields up to 'augment' and their order are those of StyleGAN2-ADA (docs/compatibility.md); ours follow them.
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
    columns = [
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
    return " ".join(columns)


class RunLog:
    """``stats.jsonl``, event files if TensorBoard is installed, and on request Weights & Biases; written by rank 0.

    Args:
        run_dir: Run folder.
        num_bytes: Length of ``stats.jsonl`` to keep; the rest belongs to ticks that will be repeated.
        cur_nimg: Images seen so far, from which on events are dropped, too.
        steps_per_kimg: 1 if a step of the event files is a thousand images, 1000 if it is one image.
        other: Another destination of statistics and samples: 'wandb' or None.

    Raises:
        UserError: As for `WandbRun`.
    """

    def __init__(
        self, run_dir: Path, num_bytes: int, cur_nimg: int, steps_per_kimg: int = 1, other: str | None = None
    ) -> None:
        path = run_dir / STATS_FILE
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 (closed by `close`)
        self._file.truncate(min(num_bytes, self.num_bytes))
        self._end_line(path)
        self._steps_per_kimg = steps_per_kimg
        self._curves: list[EventFiles | WandbRun] = [EventFiles(run_dir, self._step(cur_nimg))]
        if other == "wandb":
            self._curves.append(WandbRun(run_dir))

    def _end_line(self, path: Path) -> None:
        """End a line that was cut, as in a file that was edited meanwhile: the next tick needs one of its own."""
        if self.num_bytes == 0:
            return
        with open(path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            is_ended = file.read() == b"\n"
        if not is_ended:
            self._file.write(b"\n")

    def _step(self, cur_nimg: int) -> int:
        return cur_nimg * self._steps_per_kimg // 1000

    @property
    def num_bytes(self) -> int:
        """Length of ``stats.jsonl`` so far."""
        return self._file.seek(0, os.SEEK_END)

    def write(
        self,
        cur_nimg: int,
        stats: training_stats.Collector,
        alarms: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
    ) -> None:
        """Add the statistics of one tick, and further ones by name; a number that is not finite becomes null."""
        timestamp = time.time()
        found: dict[str, Mapping[str, float]] = {**stats.as_dict(), **alarms}
        values = {name: {key: _finite(x) for key, x in each.items()} for name, each in found.items()}
        self._append(json.dumps({**values, "timestamp": timestamp}, allow_nan=False).encode() + b"\n")
        means = {name: each["mean"] for name, each in found.items()}
        for curves in self._curves:
            curves.write(means, self._step(cur_nimg), timestamp)

    def _append(self, line: bytes) -> None:
        """Add a line durably, as the next checkpoint relies on it; if the disk is full, nothing of it stays."""
        num_bytes = self.num_bytes
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(num_bytes)
            raise

    def write_metrics(self, cur_nimg: int, results: dict[str, float]) -> None:
        """Add metric values to the event file; ``metrics.metric_main`` writes them to their own files."""
        values = {f"Metrics/{name}": value for name, value in results.items()}
        for curves in self._curves:
            curves.write(values, self._step(cur_nimg))

    def write_samples(self, name: str, cur_nimg: int, img: np.ndarray, columns: int) -> None:
        """Add a sample grid to the event file.

        Args:
            name: Its name there.
            cur_nimg: Images seen.
            img: Its images row by row, float32 ``[N, C, H, W]`` of about [-1, 1].
            columns: Number of images in a row.
        """
        picture = overview(img, columns)
        for curves in self._curves:
            curves.write_image(name, picture, self._step(cur_nimg))

    def close(self) -> None:
        """Close all files, even if one of them fails."""
        with ExitStack() as closing:
            closing.callback(self._file.close)
            for curves in self._curves:
                closing.callback(curves.close)


def _finite(value: float) -> float | None:
    """JSON has neither NaN nor infinity."""
    return value if math.isfinite(value) else None
