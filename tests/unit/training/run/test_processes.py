import os

import pytest
import torch

from dnnlib.errors import UserError
from training.run.processes import check_num_processes


@pytest.mark.parametrize(("num_cores", "most"), [(1, 8), (2, 8), (64, 64), (None, 8)])
def test_a_machine_is_not_brought_down(monkeypatch, num_cores, most):
    monkeypatch.setattr(os, "cpu_count", lambda: num_cores)
    check_num_processes("cpu", most)
    with pytest.raises(UserError, match=f"^--gpus={most + 1}: CPU cores on .*; use --gpus={most} at most"):
        check_num_processes("cpu", most + 1)


def test_every_gpu_takes_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 9)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    check_num_processes("cuda", 9)
    with pytest.raises(UserError, match=r"use --gpus=9$"):
        check_num_processes("cuda", 10)
