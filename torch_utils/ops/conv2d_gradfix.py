"""2D convolutions whose derivatives of any order are convolutions again, and whose weight gradients can be skipped.

R1 and the path-length penalty differentiate a gradient: the inner backward pass needs no weight gradients, the outer
one does. ``no_weight_gradients()`` marks the inner pass. PyTorch's own double backward computes the weight gradient of
a data gradient as a convolution with an image-sized kernel; here it is an ordinary weight gradient, which every backend
has a fast kernel for. Where no second derivative can follow, PyTorch's own first derivatives are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from torch_utils.ops.layout import dense

enabled = True
"""False uses PyTorch's own convolution autograd throughout; ``no_weight_gradients()`` then has no effect."""

_weight_gradients_disabled = False

IntPair = int | tuple[int, int] | list[int]


@contextmanager
def no_weight_gradients() -> Iterator[None]:
    """Within this context, backward passes leave out the gradients of convolution weights.

    It applies to all threads, but not to convolutions that ran under autocast. The result of
    ``torch.autograd.grad(..., create_graph=True)`` inside it can be differentiated outside with complete gradients.
    """
    global _weight_gradients_disabled
    before, _weight_gradients_disabled = _weight_gradients_disabled, True
    try:
        yield
    finally:
        _weight_gradients_disabled = before


def conv2d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
) -> torch.Tensor:
    """``torch.nn.functional.conv2d``: ``input`` [N, I, H, W], ``weight`` [O, I/groups, kh, kw], ``bias`` [O]."""
    if not _use_custom(input):
        return torch.nn.functional.conv2d(input, weight, bias, _pair(stride), _pair(padding), _pair(dilation), groups)
    spec = _Spec(_pair(stride), _pair(padding), _pair(dilation), False, (0, 0), groups)
    return _Convolution.apply(*_common_layout(input, weight), bias, spec)


def conv_transpose2d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    output_padding: IntPair = 0,
    groups: int = 1,
    dilation: IntPair = 1,
) -> torch.Tensor:
    """``torch.nn.functional.conv_transpose2d``: ``input`` [N, I, H, W], ``weight`` [I, O/groups, kh, kw]."""
    if not _use_custom(input):
        return torch.nn.functional.conv_transpose2d(
            input, weight, bias, _pair(stride), _pair(padding), _pair(output_padding), groups, _pair(dilation)
        )
    spec = _Spec(_pair(stride), _pair(padding), _pair(dilation), True, _pair(output_padding), groups)
    return _Convolution.apply(*_common_layout(input, weight), bias, spec)


def _use_custom(input: torch.Tensor) -> bool:
    # Exporters and compilers trace PyTorch's convolution; autograd Functions would only be in their way.
    if not (enabled and torch.is_grad_enabled()) or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    kind = input.device.type
    # Autocast casts for PyTorch's own functions only; some devices, such as meta, have none.
    return not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind))


def _pair(value: IntPair) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    height, width = value
    return int(height), int(width)


class _Spec(NamedTuple):
    """Geometry of one convolution, in the order in which ``torch.convolution`` takes it."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    transposed: bool
    output_padding: tuple[int, int]
    groups: int

    def adjoint(self, input_hw: torch.Size, output_hw: torch.Size, kernel_hw: torch.Size) -> _Spec:
        """Return the convolution that maps output gradients to input gradients with the same weight tensor."""
        if self.transposed:
            return self._replace(transposed=False, output_padding=(0, 0))
        covered = [
            (output_hw[i] - 1) * self.stride[i] - 2 * self.padding[i] + self.dilation[i] * (kernel_hw[i] - 1) + 1
            for i in (0, 1)
        ]
        output_padding = (input_hw[0] - covered[0], input_hw[1] - covered[1])
        return self._replace(transposed=True, output_padding=output_padding)


def _common_layout(input: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Bring both to one memory format: that of the input, or on a CPU that of the larger one.

    Mixed ones make weight gradients on a CPU up to 4x slower.
    """
    if input.device.type == "cpu" and weight.numel() > input.numel():
        return dense(input, weight), weight
    return input, dense(weight, input)


_aten_backward = torch.ops.aten.convolution_backward.default


class _Convolution(torch.autograd.Function):
    """Convolution or transposed convolution; linear in both arguments, so both derivatives are of the same family."""

    @staticmethod
    def forward(
        ctx: Any, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, spec: _Spec
    ) -> torch.Tensor:
        output = torch.convolution(input, weight, bias, *spec)
        # Keep only what a derivative will need: low-pass filters and frozen networks let go of their input.
        needs_grad_input, needs_grad_weight = ctx.needs_input_grad[:2]
        ctx.save_for_backward(input if needs_grad_weight else None, weight if needs_grad_input else None)
        ctx.spec = spec
        ctx.input_hw, ctx.weight_shape = input.shape[2:], weight.shape
        return output

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        needs_bias = ctx.needs_input_grad[2]
        if all(ctx.needs_input_grad[:2]) and not (torch.is_grad_enabled() or _weight_gradients_disabled):
            # Called without create_graph: no second derivative follows. One call yields all gradients.
            bias_sizes = [grad_output.shape[1]] if needs_bias else None
            mask = [True, True, needs_bias]
            return *_aten_backward(grad_output, input, weight, bias_sizes, *ctx.spec, mask), None
        grad_input = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_input = _input_gradient(grad_output, weight, ctx.spec, ctx.input_hw)
        if ctx.needs_input_grad[1] and not _weight_gradients_disabled:
            grad_weight = _WeightGradient.apply(grad_output, input, ctx.weight_shape, ctx.spec)
        if needs_bias:
            grad_bias = grad_output.sum([0, 2, 3])
        return grad_input, grad_weight, grad_bias, None


def _input_gradient(grad_output: torch.Tensor, weight: torch.Tensor, spec: _Spec, input_hw: torch.Size) -> torch.Tensor:
    """Compute the gradient of a convolution's input, a bilinear function of (grad_output, weight)."""
    grad_input: torch.Tensor = _Convolution.apply(
        grad_output, weight, None, spec.adjoint(input_hw, grad_output.shape[2:], weight.shape[2:])
    )
    if grad_input.shape[2:] == input_hw:
        return grad_input
    # An output_padding of the stride or more lets the adjoint reach further than the input does.
    return grad_input[:, :, : input_hw[0], : input_hw[1]]


class _WeightGradient(torch.autograd.Function):
    """Computes the gradient of a convolution's weight, a bilinear function of (grad_output, input)."""

    @staticmethod
    def forward(
        ctx: Any, grad_output: torch.Tensor, input: torch.Tensor, weight_shape: torch.Size, spec: _Spec
    ) -> torch.Tensor:
        ctx.save_for_backward(grad_output, input)
        ctx.spec = spec
        layout = dense(input.new_empty(weight_shape), input)
        grad_output = dense(grad_output, input)
        return _aten_backward(grad_output, input, layout, None, *spec, [False, True, False])[1]

    @staticmethod
    def backward(ctx: Any, grad_weight: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_output, input = ctx.saved_tensors
        grad_of_grad_output = grad_of_input = None
        if ctx.needs_input_grad[0]:
            grad_of_grad_output = _Convolution.apply(input, grad_weight, None, ctx.spec)
        if ctx.needs_input_grad[1]:
            grad_of_input = _input_gradient(grad_output, grad_weight, ctx.spec, input.shape[2:])
        return grad_of_grad_output, grad_of_input, None, None
