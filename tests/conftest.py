"""Every test starts from the same seeds, on one thread, without a display; child processes inherit the last two."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # so that not every child process compiles this project anew

import numpy as np
import pytest
import torch

from tests.processes import forked_ranks

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # kernels run on CPU tensors


@pytest.hookimpl(optionalhook=True)  # "-p no:xdist" leaves the hook undefined
def pytest_xdist_auto_num_workers():
    """One more than there are cores: many tests wait for processes of their own."""
    return min((os.cpu_count() or 1) + 1, 4)


@pytest.fixture(autouse=True)
def _same_seeds():
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _quick_ranks():
    with forked_ranks():
        yield


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
