import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from torch_utils.out_of_memory import out_of_memory_means


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: torch.empty(1 << 50),
        lambda: np.zeros(1 << 50),
        lambda: bytearray(1 << 50),
    ],
    ids=["torch", "numpy", "python"],
)
def test_real_allocations_that_fail(allocate):
    with pytest.raises(UserError, match=r"^out of memory \([^\n]*\): use less$"), out_of_memory_means("use less"):
        allocate()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("could not create a primitive"),
        MemoryError(),
    ],
)
def test_errors_of_devices(error):
    with pytest.raises(UserError, match=r"^out of memory \([^\n]+\): use less$"), out_of_memory_means("use less"):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), KeyError("memory"), UserError("out of memory: no")])
def test_other_errors_pass(error):
    with pytest.raises(type(error), match=str(error)), out_of_memory_means("use less"):
        raise error
