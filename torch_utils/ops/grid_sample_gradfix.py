"""Bilinear sampling that can be differentiated twice with respect to the image.

PyTorch's own ``grid_sample`` has a second derivative from 2.12 on; on older versions this file supplies it. Sampling is
linear in the image, so the second derivative is sampling again.
"""

from __future__ import annotations

from typing import Any

import torch

enabled = True
"""False uses PyTorch's own derivatives throughout."""

_ZEROS, _BILINEAR = 0, 0  # How aten numbers the padding and interpolation modes.


def grid_sample(input: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Sample ``input`` [N, C, H, W] at ``grid`` [N, h, w, 2], x and y in [-1, 1]: bilinear, zeros outside.

    Corners are not aligned: -1 and 1 are the outer edges of the outermost pixels. Gradients with respect to ``input``
    are exact to any order; ``grid`` is treated as constant.

    Raises:
        ValueError: Shapes or dtypes do not fit.
    """
    if input.ndim != 4 or grid.ndim != 4 or grid.shape[0] != input.shape[0] or grid.shape[3] != 2:
        raise ValueError(
            f"grid_sample: needs input [N, C, H, W] and grid [N, h, w, 2], "
            f"got {list(input.shape)} and {list(grid.shape)}"
        )
    if 0 in input.shape[2:]:
        raise ValueError(f"grid_sample: input must have pixels, got {list(input.shape)}")
    if input.dtype != grid.dtype or not input.is_floating_point():
        raise ValueError(
            f"grid_sample: input and grid must have one floating-point dtype, got {input.dtype} and {grid.dtype}"
        )
    if enabled and not torch.compiler.is_compiling() and not torch.jit.is_tracing():
        return _GridSample.apply(input, grid.detach())
    return torch.nn.functional.grid_sample(input, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


class _GridSample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(grid)
        ctx.input_shape = input.shape
        return torch.nn.functional.grid_sample(input, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grid,) = ctx.saved_tensors
        return _GridSampleAdjoint.apply(grad_output, grid, ctx.input_shape), None


class _GridSampleAdjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad_output: torch.Tensor, grid: torch.Tensor, input_shape: torch.Size) -> torch.Tensor:
        ctx.save_for_backward(grid)
        image = grad_output.new_zeros(()).expand(input_shape)  # Only its shape matters: sampling is linear in it.
        return torch.ops.aten.grid_sampler_2d_backward(
            grad_output, image, grid, _BILINEAR, _ZEROS, False, [True, False]
        )[0]

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grid,) = ctx.saved_tensors
        return _GridSample.apply(grad, grid), None, None
