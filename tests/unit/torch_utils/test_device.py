import pytest
import torch

from dnnlib.errors import UserError
from torch_utils.device import choose_device


def test_each_process_has_a_cuda_device_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto", 2, local_rank=1) == torch.device("cuda", 1)
    assert choose_device("cuda") == torch.device("cuda", 0)
    assert choose_device("cpu", 8, local_rank=7) == torch.device("cpu")
    with pytest.raises(UserError, match=r"^--gpus=3: CUDA devices on this machine: 2; use --gpus=2$"):
        choose_device("auto", 3, local_rank=2)


def test_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match=r"^--device=cuda: torch finds no CUDA device; .*--device=cpu$"):
        choose_device("cuda")
    with pytest.raises(UserError, match=r"^--device=mps: .*--device=cpu$"):
        choose_device("mps")


def test_one_process_on_an_apple_gpu(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("mps") == torch.device("mps")
    with pytest.raises(UserError, match=r"^--gpus=2: .*use --gpus=1$"):
        choose_device("mps", num_gpus=2)
