"""A dataset, a run on it, and a machine with GPUs."""

import pytest
import torch

from tests.training_runs import write_dataset
from tests.unit.training.run.launch_requests import request
from training.run.launch import prepare_run


@pytest.fixture
def data(tmp_path):
    return write_dataset(tmp_path / "cats.zip")


@pytest.fixture
def run_dir(tmp_path, data):
    return prepare_run(request(tmp_path, {"data": str(data)})).run_dir


@pytest.fixture
def eight_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 1 << 30))
