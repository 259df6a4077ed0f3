"""Bias, activation, gain and clamp in one operation.

y = clamp(gain * act(x + b), -clamp, clamp). For the activations made of straight lines (linear, relu, lrelu) the slope
at every point can be read off y itself, so y is all that the backward pass keeps, and its derivative is the same
operation again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

IMPLS = ("auto", "ref")


@dataclass(frozen=True)
class Activation:
    """An activation function with its defaults in StyleGAN2 (docs/compatibility.md)."""

    func: Callable[..., torch.Tensor]
    """``func(x, alpha)``; ``alpha`` is used by 'lrelu' only."""
    def_gain: float = 1.0
    def_alpha: float = 0.0
    is_piecewise_linear: bool = False


activation_funcs: dict[str, Activation] = {
    "linear": Activation(lambda x, alpha=0.0: x, is_piecewise_linear=True),
    "relu": Activation(lambda x, alpha=0.0: functional.relu(x), float(np.sqrt(2)), is_piecewise_linear=True),
    "lrelu": Activation(
        lambda x, alpha=0.2: functional.leaky_relu(x, alpha), float(np.sqrt(2)), 0.2, is_piecewise_linear=True
    ),
    "tanh": Activation(lambda x, alpha=0.0: torch.tanh(x)),
    "sigmoid": Activation(lambda x, alpha=0.0: torch.sigmoid(x)),
    "elu": Activation(lambda x, alpha=0.0: functional.elu(x)),
    "selu": Activation(lambda x, alpha=0.0: functional.selu(x)),
    "softplus": Activation(lambda x, alpha=0.0: functional.softplus(x)),
    "swish": Activation(lambda x, alpha=0.0: torch.sigmoid(x) * x, float(np.sqrt(2))),
}


def bias_act(
    x: torch.Tensor,
    b: torch.Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    impl: str = "auto",
) -> torch.Tensor:
    """Add a bias, apply an activation, scale and clamp; exact first and second derivatives.

    Args:
        x: Floating-point tensor of any shape.
        b: Bias ``[x.shape[dim]]`` of the dtype of ``x``, or None.
        dim: Dimension of ``x`` that the bias belongs to.
        act: A key of `activation_funcs`.
        alpha: Negative slope of 'lrelu'; None takes the activation's default.
        gain: Factor after the activation; None takes the activation's default.
        clamp: Limit of the magnitude of the result, or None.
        impl: 'auto', or 'ref' for the plain-PyTorch definition below.

    Returns:
        Tensor with the shape, dtype and memory format of ``x``.

    Raises:
        ValueError: An argument has a wrong shape, dtype or value.
    """
    if act not in activation_funcs:
        raise ValueError(f"bias_act: act must be one of {', '.join(activation_funcs)}, got {act!r}")
    if impl not in IMPLS:
        raise ValueError(f"bias_act: impl must be one of {', '.join(IMPLS)}, got {impl!r}")
    if not x.is_floating_point():
        raise ValueError(f"bias_act: x must be floating point, got {x.dtype}")
    if clamp is not None and clamp < 0:
        raise ValueError(f"bias_act: clamp must be None or at least 0, got {clamp}")
    spec = activation_funcs[act]
    alpha = spec.def_alpha if alpha is None else float(alpha)
    gain = spec.def_gain if gain is None else float(gain)
    if b is not None:
        b = _broadcastable(b, x, dim)
    if impl == "auto" and spec.is_piecewise_linear and gain > 0 and alpha >= 0 and not torch.compiler.is_compiling():
        slope = {"linear": 1.0, "relu": 0.0}.get(act, alpha)
        return _PiecewiseLinear.apply(x, b, slope, gain, clamp)
    return _bias_act_ref(x, b, spec, alpha, gain, clamp)


def _broadcastable(b: torch.Tensor, x: torch.Tensor, dim: int) -> torch.Tensor:
    if not 0 <= dim < x.ndim:
        raise ValueError(f"bias_act: dim must be in 0..{x.ndim - 1} for x of shape {list(x.shape)}, got {dim}")
    if b.ndim != 1 or b.shape[0] != x.shape[dim]:
        raise ValueError(f"bias_act: b must have shape [{x.shape[dim]}] (dimension {dim} of x), got {list(b.shape)}")
    if b.dtype != x.dtype:
        raise ValueError(f"bias_act: b must have the dtype of x, {x.dtype}, got {b.dtype}")
    return b.reshape([-1 if i == dim else 1 for i in range(x.ndim)])


def _bias_act_ref(
    x: torch.Tensor, b: torch.Tensor | None, spec: Activation, alpha: float, gain: float, clamp: float | None
) -> torch.Tensor:
    """Compute the definition step by step; ``b`` broadcasts to ``x``."""
    y = spec.func(x if b is None else x + b, alpha) * gain
    return y if clamp is None else y.clamp(-clamp, clamp)


class _PiecewiseLinear(torch.autograd.Function):
    """Computes clamp(gain * lrelu(x + b, slope)): slope 1 is linear, 0 is relu."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, b: torch.Tensor | None, slope: float, gain: float, clamp: float | None
    ) -> torch.Tensor:
        # lrelu commutes with positive factors, so that the gain costs no pass of its own.
        y = x * gain if b is None else torch.add(b * gain, x, alpha=gain)
        if slope != 1:
            functional.leaky_relu_(y, slope)
        if clamp is not None:
            y.clamp_(-clamp, clamp)
        ctx.save_for_backward(y)
        ctx.slope_gain_clamp = slope, gain, clamp
        ctx.bias_shape = None if b is None else b.shape
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        grad_x = _Slope.apply(grad_y, y, *ctx.slope_gain_clamp)
        grad_b = grad_x.sum_to_size(ctx.bias_shape) if ctx.needs_input_grad[1] else None
        return grad_x if ctx.needs_input_grad[0] else None, grad_b, None, None, None


class _Slope(torch.autograd.Function):
    """Multiplies ``grad`` by the slope of `_PiecewiseLinear` at the result ``y``: linear in grad, constant in y."""

    @staticmethod
    def forward(
        ctx: Any, grad: torch.Tensor, y: torch.Tensor, slope: float, gain: float, clamp: float | None
    ) -> torch.Tensor:
        ctx.save_for_backward(y)
        ctx.slope_gain_clamp = slope, gain, clamp
        result = grad * gain
        if slope != 1:
            result = torch.ops.aten.leaky_relu_backward(result, y, slope, True)
        if clamp is not None:
            result.masked_fill_(y.abs() >= clamp, 0)
        return result

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        return _Slope.apply(grad, y, *ctx.slope_gain_clamp), None, None, None, None
