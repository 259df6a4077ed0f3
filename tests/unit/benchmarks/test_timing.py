"""Clocks of the CPU; those of a GPU need one."""

from __future__ import annotations

import pytest
import torch

from benchmarks.timing import seconds_of, seconds_per_call


def test_calls_are_repeated():
    calls = []
    seconds = seconds_per_call(lambda: calls.append(None), torch.device("cpu"), repeats=5, warmups=2)
    assert len(calls) == 7
    assert seconds >= 0
    assert seconds_of(lambda: calls.append(None), torch.device("cpu")) >= 0
    assert len(calls) == 8


@pytest.mark.gpu
def test_gpu_time_is_that_of_the_device():
    x = torch.randn([4096, 4096], device="cuda")
    assert seconds_per_call(lambda: x @ x, torch.device("cuda"), repeats=5) > 1e-5
