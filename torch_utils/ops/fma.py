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
    except RuntimeError as error:
        shapes = [list(tensor.shape) for tensor in (a, b, c)]
        if _broadcast(shapes):
            raise  # a fault of another kind, of the device perhaps
        raise ValueError(f"fma: shapes of a, b and c must broadcast, got {', '.join(map(str, shapes))}") from error


def _broadcast(shapes: list[list[int]]) -> bool:
    try:
        torch.broadcast_shapes(*shapes)
    except RuntimeError:
        return False
    return True
