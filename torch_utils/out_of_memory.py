"""Turns out-of-memory errors into one-line user errors with advice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dnnlib.errors import UserError

_SIGNS = (
    *("out of memory", "not enough memory", "can't allocate memory", "bad_alloc", "STATUS_ALLOC_FAILED"),
    "could not create a primitive",
)
"""Signs in the messages of torch's allocators, cuDNN, cuBLAS and oneDNN (the last), whose errors have no class."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that there is not enough memory, on a GPU or in the machine."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


@contextmanager
def out_of_memory_means(advice: str) -> Iterator[None]:
    """Turn out-of-memory errors into a `UserError` that ends in ``advice``; also works as a decorator."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        first_line = str(error).partition("\n")[0][:200]
        raise UserError(f"out of memory ({first_line or type(error).__name__}): {advice}") from error
