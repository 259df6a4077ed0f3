"""Memory layouts of images and weights, contiguous ``[N, C, H, W]`` or channels-last ``[N, H, W, C]``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Return whether ``x`` [N, C, H, W] lies in memory as [N, H, W, C] only."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def dense(x: Tensor, like: Tensor) -> Tensor:
    """Bring ``x`` to the memory format of ``like``: channels-last or contiguous."""
    return x.contiguous(memory_format=torch.channels_last if is_channels_last(like) else torch.contiguous_format)


def scaled_copy(weight: Tensor, factor: float, like: Tensor) -> Tensor:
    """Return ``weight * factor`` with the dtype and in the memory format of ``like``, in one pass; differentiable."""
    return _ScaledCopy.apply(weight, factor, like.dtype, is_channels_last(like))


def scale_into(
    x: Tensor, factor: float | Tensor, dtype: torch.dtype, channels_last: bool, transposed: bool = False
) -> Tensor:
    """Return ``x * factor`` in another dtype and memory format, in one pass and without derivatives.

    Args:
        x: ``[O, I, kh, kw]``.
        factor: Broadcasts to ``x``.
        dtype: Type of the result.
        channels_last: The result lies in memory as ``[O, kh, kw, I]``, else as ``[O, I, kh, kw]``.
        transposed: O and I change places in memory, as a transposed convolution takes them.
    """
    shape = x.transpose(0, 1).shape if transposed else x.shape
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    result = torch.empty(shape, dtype=dtype, device=x.device, memory_format=memory_format)
    return torch.mul(x, factor, out=result.transpose(0, 1) if transposed else result)


class _ScaledCopy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float, dtype: torch.dtype, channels_last: bool) -> Tensor:
        ctx.back = factor, x.dtype, is_channels_last(x)
        return scale_into(x, factor, dtype, channels_last)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _ScaledCopy.apply(grad, *ctx.back), None, None, None
