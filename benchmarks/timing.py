"""Time of work on any device, and devices that run ahead of the host."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable

import torch


def synchronize(device: torch.device) -> None:
    """Wait until a device has done everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that one call takes, from an idle device to an idle device."""
    synchronize(device)
    begin = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - begin


def seconds_per_call(work: Callable[[], object], device: torch.device, repeats: int, warmups: int = 3) -> float:
    """Return the median seconds on the device's own clock of calls that follow each other without a pause."""
    for _ in range(warmups):
        work()
    if device.type != "cuda":
        return statistics.median(seconds_of(work, device) for _ in range(repeats))
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    torch.cuda.synchronize(device)
    for event in events[:-1]:
        event.record()
        work()
    events[-1].record()
    torch.cuda.synchronize(device)
    times_ms = [begin.elapsed_time(end) for begin, end in itertools.pairwise(events)]
    return statistics.median(times_ms) / 1000
