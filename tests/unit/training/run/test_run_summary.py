import collections
import re

import pytest
import torch

from torch_utils.main_memory import main_memory_bytes
from training.run import run_summary
from training.run.dataset_info import DatasetInfo
from training.run.options import Flags, resolve
from training.run.run_summary import describe_run
from training.run.settings import TrainingSettings

Usage = collections.namedtuple("Usage", "total used free")


def described(tmp_path, resolution=64, device="cpu", **flags):
    dataset = DatasetInfo("cats", resolution, 500, has_labels=False)
    kwargs = resolve(Flags(data="cats.zip", **flags), dataset)
    return describe_run(TrainingSettings(**kwargs), dataset, tmp_path, torch.device(device))


def number_before(unit, text):
    return float(re.search(rf"about ([\d.]+) GiB {unit}", text)[1])


def test_generators_stay_where_they_are(tmp_path):
    state = torch.get_rng_state()
    described(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)


def test_memory_is_that_of_the_device(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 30, 24 << 30))
    assert "per process (the GPU has 24.0 GiB; --batch-gpu up to " in described(tmp_path, device="cuda")


def test_what_is_said(tmp_path):
    text = described(tmp_path, batch=32, batch_gpu=8, gpus=2)
    assert "Images:     500 of 64 px, no labels" in text
    assert "Batch:      32 images, 2 processes, 8 per pass" in text
    assert re.search(r"Networks:   G \d+\.\d M parameters, D \d+\.\d M \(Discriminator\)", text)
    assert f"{main_memory_bytes() / 2**30:.1f} GiB of main memory" in text


@pytest.mark.slow
def test_memory_grows_with_what_is_kept(tmp_path):
    memory = [
        number_before("per process", described(tmp_path, **flags))
        for flags in ({"batch": 8}, {"batch": 64}, {"batch": 64, "cbase": 65536, "cmax": 1024})
    ]
    assert memory == sorted(memory)
    assert memory[2] > 1.5 * memory[1] > 1.5 * memory[0]


@pytest.mark.slow
def test_snapshots_and_states_are_counted(tmp_path):
    rare, often = (described(tmp_path, kimg=400, snap=snap) for snap in (50, 5))
    assert "for 3 snapshots" in rare
    assert "for 21 snapshots" in often
    per_snapshot = (number_before("for", often) - number_before("for", rare)) / 18
    num_G, num_D = (float(value) * 1e6 for value in re.search(r"G ([\d.]+) M parameters, D ([\d.]+) M", rare).groups())
    assert per_snapshot == pytest.approx((2 * num_G + num_D) * 4 / 2**30, rel=0.1)


@pytest.mark.parametrize(("free", "warns"), [(0, True), (1 << 50, False)])
def test_a_disk_that_may_run_full(tmp_path, monkeypatch, free, warns):
    monkeypatch.setattr(run_summary.shutil, "disk_usage", lambda path: Usage(1 << 50, 0, free))
    assert ("Warning: the disk may run full" in described(tmp_path)) == warns


def test_the_folder_need_not_exist(tmp_path):
    assert "GiB free" in described(tmp_path / "new" / "runs")
