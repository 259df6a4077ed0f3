import dataclasses

import pytest
import torch

from training.run import memory
from training.run.dataset_info import DatasetInfo
from training.run.memory import (
    describe_memory,
    estimate_memory,
    fitting_batch_gpu,
    legal_batch_gpus,
    out_of_memory_advice,
)
from training.run.options import Flags, resolve
from training.run.settings import TrainingSettings

CPU = torch.device("cpu")
MIB = 1 << 20

MEASURED = [
    (32, {"cfg": "stylegan2", "small": True}, 492),
    (32, {"cfg": "stylegan2", "cbase": 4096, "batch": 8}, 1214),
    (64, {"cfg": "stylegan2", "small": True}, 527),
    (32, {"cfg": "msconD", "small": True}, 627),
]
"""Resident size of the main process at its peak in MiB, of some runs in docs/benchmarks.md."""


def run_of(resolution=32, **flags):
    dataset = DatasetInfo("cats", resolution, 500, has_labels=False)
    return TrainingSettings(**resolve(Flags(data="", **flags), dataset)), dataset


@pytest.mark.slow
@pytest.mark.parametrize(("resolution", "flags", "measured_mib"), MEASURED)
def test_estimates_are_those_that_were_measured(resolution, flags, measured_mib):
    estimate = estimate_memory(*run_of(resolution, **flags), CPU)
    assert estimate.peak_bytes() / MIB == pytest.approx(measured_mib, rel=0.15)


def test_the_images_per_pass_that_are_possible():
    settings, _dataset = run_of(cfg="stylegan2", batch=24)  # groups of 4
    assert legal_batch_gpus(settings) == [1, 2, 3, 4, 8, 12, 24]


@pytest.fixture
def small():
    return run_of(cbase=256, cmax=16, map_depth=1, batch=16)


def test_what_fits_follows_from_the_peak(small):
    settings, dataset = small
    estimate = estimate_memory(settings, dataset, CPU)
    peaks = {num: estimate.peak_bytes(num) for num in legal_batch_gpus(settings)}
    assert list(peaks.values()) == sorted(peaks.values())
    assert peaks[16] == estimate.peak_bytes()
    assert {num: fitting_batch_gpu(settings, estimate, limit) for num, limit in peaks.items()} == {
        num: num for num in peaks
    }
    assert fitting_batch_gpu(settings, estimate, peaks[1] - 1) is None


def test_what_is_said(small, monkeypatch):
    settings, dataset = small
    estimate = estimate_memory(settings, dataset, CPU)
    for limit, words in (
        (estimate.peak_bytes(16), ["--batch-gpu up to 16 fits"]),
        (estimate.peak_bytes(4), ["--batch-gpu up to 4 fits", "Warning: memory may run out; --batch-gpu=4 fits"]),
        (1, ["no --batch-gpu fits", "Warning: memory may run out; lower --cbase or --cmax, or use smaller images"]),
    ):
        monkeypatch.setattr(memory, "limit_per_process", lambda *args, limit=limit: limit)
        lines = describe_memory(settings, dataset, CPU)
        assert len(lines) == len(words)
        assert all(word in line for word, line in zip(words, lines, strict=True))


def test_a_method_that_cannot_be_rehearsed(small, monkeypatch):
    def fails(*args, **kwargs):
        raise NotImplementedError("no such operator\nMore")

    monkeypatch.setattr(memory, "rehearse", fails)
    memory._rehearsed.cache_clear()
    (line,) = describe_memory(*small, CPU)
    assert line.startswith("Memory:     unknown (")
    assert line.endswith("), as the method cannot be rehearsed: NotImplementedError: no such operator")


def test_a_limit_below_the_memory_of_the_machine_is_told(small, monkeypatch):
    monkeypatch.setattr(memory, "main_memory_bytes", lambda: 5 * 2**29)
    monkeypatch.setattr(memory, "is_limited", lambda: True)
    assert "(2.5 GiB of main memory may be used here; --batch-gpu up to 16 fits)" in describe_memory(*small, CPU)[0]
    monkeypatch.setattr(memory, "is_limited", lambda: False)
    assert "(this machine has 2.5 GiB of main memory; --batch-gpu up to 16 fits)" in describe_memory(*small, CPU)[0]


def test_advice_when_memory_has_run_out():
    settings, _dataset = run_of(cfg="stylegan2", batch=16)
    advice = out_of_memory_advice(dataclasses.replace(settings, batch_gpu=16), "runs/00000-cats")
    assert "set batch_gpu to 8 in runs/00000-cats/training_options.json and continue from the last" in advice
    assert "\n" not in advice
    single = dataclasses.replace(settings, batch_gpu=1)
    assert "start a run with a smaller --cbase" in out_of_memory_advice(single, "runs/00000-cats")
