"""A stopwatch that runs on the clock of a device, so that the host need not wait to start or stop it."""

from __future__ import annotations

import time
from typing import Any

import torch


class Stopwatch:
    """Measures the time between a start and a stop on the device's own clock."""

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._events: list[Any] = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if self._is_cuda else []
        self._times = [0.0, 0.0]
        self._used = False

    def start(self) -> None:
        """Start the measurement."""
        self._mark(0)

    def stop(self) -> None:
        """End the measurement."""
        self._mark(1)
        self._used = True

    def _mark(self, which: int) -> None:
        if self._is_cuda:
            self._events[which].record()
        else:
            self._times[which] = time.perf_counter()

    def read_sec(self) -> float | None:
        """Return the seconds of the last measurement, None before the first; waits for the device."""
        if not self._used:
            return None
        if self._is_cuda:
            self._events[1].synchronize()
            return float(self._events[0].elapsed_time(self._events[1])) / 1000
        return self._times[1] - self._times[0]
