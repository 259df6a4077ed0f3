import types

import pytest
import torch

from torch_utils import stopwatch
from torch_utils.stopwatch import Stopwatch

CLOCK_SEC = [7.0, 9.5]
"""When the measurement starts and stops."""


class Event:
    """An event of a GPU whose clock is read when both have been waited for; the differences are milliseconds."""

    def __init__(self, clock):
        self._clock = clock
        self._is_past = False

    def record(self):
        self._sec = next(self._clock)

    def synchronize(self):
        self._is_past = True

    def elapsed_time(self, end):
        assert end._is_past
        return (end._sec - self._sec) * 1000


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_seconds_between_start_and_stop(monkeypatch, device):
    clock = iter(CLOCK_SEC)
    monkeypatch.setattr(stopwatch, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: Event(clock))
    watch = Stopwatch(torch.device(device))
    assert watch.read_sec() is None
    watch.start()
    assert watch.read_sec() is None
    watch.stop()
    assert watch.read_sec() == 2.5
