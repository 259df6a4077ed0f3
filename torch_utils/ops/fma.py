"""Fused multiply-add with broadcasting."""

from __future__ import annotations

import torch


def fma(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """Compute a * b + c in one pass over memory; shapes broadcast, derivatives of any order.

    Raises:
        ValueError: Shapes do not broadcast.
    """
    try:
        return torch.addcmul(c, a, b)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        shapes = ", ".join(str(list(tensor.shape)) for tensor in (a, b, c))
        raise ValueError(f"fma: shapes of a, b and c must broadcast, got {shapes}") from error
