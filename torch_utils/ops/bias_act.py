"""Bias, activation, gain and clamp in one operation.

y = clamp(gain * act(x + b), -clamp, clamp): `_definition` in PyTorch. As kernels, the operation, its derivative and the
derivative of that read and write each tensor once.

For the activations made of straight lines (linear, relu, lrelu) the slope at every point can be read off y itself, so y
is all that the backward pass keeps, and its derivative is the same operation again. For curves x and b are kept.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, no_type_check

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from torch_utils.ops import kernels
from torch_utils.ops.tiles import ceil_power_of_2

IMPLS = kernels.IMPLS

tl: Any = None  # bound by kernels.compiled

Factors = Sequence[float]
"""alpha, gain and clamp; a clamp of infinity is none."""

BLOCK_SIZE = 4096
"""Elements per program of the kernel: 16 per thread, which neither spill registers nor keep threads from running."""

MAX_BLOCK_CHANNELS = 64
"""Channels per program where they are columns: the more rows a program has, the fewer partial sums there are."""


@dataclass(frozen=True)
class Activation:
    """An activation function with its defaults in StyleGAN2 (docs/compatibility.md)."""

    func: Callable[..., Tensor]
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
    x: Tensor,
    b: Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    impl: str = "auto",
) -> Tensor:
    """Add a bias, apply an activation, scale and clamp; exact first and second derivatives.

    Args:
        x: Floating-point tensor of any shape.
        b: Bias ``[x.shape[dim]]`` of the dtype and on the device of ``x``, or None.
        dim: Dimension of ``x`` that the bias belongs to.
        act: A key of `activation_funcs`.
        alpha: Negative slope of 'lrelu'; None takes the activation's default.
        gain: Factor after the activation; None takes the activation's default.
        clamp: Limit of the magnitude of the result, or None.
        impl: One of `kernels.IMPLS`: 'auto' or 'cuda' (a Triton kernel on GPUs), 'triton', or 'ref' for the
            plain-PyTorch definition below.

    Returns:
        Tensor with the shape, dtype and memory format of ``x``.

    Raises:
        ValueError: An argument has a wrong shape, dtype, device or value.
    """
    if act not in activation_funcs:
        raise ValueError(f"bias_act: act must be one of {', '.join(activation_funcs)}, got {act!r}")
    kernels.check_impl("bias_act", impl)
    if not x.is_floating_point():
        raise ValueError(f"bias_act: x must be floating point, got {x.dtype}")
    if clamp is not None and clamp < 0:
        raise ValueError(f"bias_act: clamp must be None or at least 0, got {clamp}")
    if b is not None:
        _check_bias(b, x, dim)
    spec = activation_funcs[act]
    alpha = spec.def_alpha if alpha is None else float(alpha)
    gain = spec.def_gain if gain is None else float(gain)
    clamp = math.inf if clamp is None else float(clamp)
    kernel = kernels.are_wanted(impl, x)
    if spec.is_piecewise_linear and impl != "ref":
        slope = {"linear": 1.0, "relu": 0.0}.get(act, alpha)
        if kernel or (_slope_shows("lrelu", [slope, gain, clamp]) and not torch.compiler.is_compiling()):
            return _apply(x, b, dim, "lrelu", [slope, gain, clamp], kernel)
    if kernel:
        return _apply(x, b, dim, act, [alpha, gain, clamp], kernel)
    return _definition(x, b, dim, act, [alpha, gain, clamp])


def _check_bias(b: Tensor, x: Tensor, dim: int) -> None:
    if not 0 <= dim < x.ndim:
        raise ValueError(f"bias_act: dim must be in 0..{x.ndim - 1} for x of shape {list(x.shape)}, got {dim}")
    if b.ndim != 1 or b.shape[0] != x.shape[dim]:
        raise ValueError(f"bias_act: b must have shape [{x.shape[dim]}] (dimension {dim} of x), got {list(b.shape)}")
    if b.dtype != x.dtype:
        raise ValueError(f"bias_act: b must have the dtype of x, {x.dtype}, got {b.dtype}")
    if b.device != x.device:
        raise ValueError(f"bias_act: b must be on the device of x, {x.device}, got {b.device}")


def _definition(x: Tensor, b: Tensor | None, dim: int, act: str, factors: Factors) -> Tensor:
    """Compute bias_act step by step; ``factors`` are alpha, gain and clamp, where infinity does not clamp."""
    alpha, gain, clamp = factors
    y = activation_funcs[act].func(x if b is None else x + _along(b, dim, x.ndim), alpha) * gain
    return y if clamp == math.inf else y.clamp(-clamp, clamp)


def _along(b: Tensor, dim: int, ndim: int) -> Tensor:
    return b.reshape([-1 if i == dim else 1 for i in range(ndim)])


def _slope_shows(act: str, factors: Factors) -> bool:
    """Return whether y shows the slope at x, because it is made of straight lines and has the sign of x."""
    alpha, gain, _clamp = factors
    return act == "lrelu" and alpha >= 0 and gain > 0


def _apply(x: Tensor, b: Tensor | None, dim: int, act: str, factors: Factors, kernel: bool) -> Tensor:
    """Call bias_act without checks; 'lrelu' stands for all straight lines: alpha 1 is linear, 0 is relu."""
    if torch.is_grad_enabled():
        return _BiasAct.apply(x, b, dim, act, factors, kernel)
    return _bias_act(x, b, dim, act, factors, kernel=kernel)


class _BiasAct(torch.autograd.Function):
    """y = clamp(gain * act(x + b)); keeps y where `_slope_shows`, else x and b."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, b: Tensor | None, dim: int, act: str, factors: Factors, kernel: bool) -> Tensor:
        y: Tensor = _bias_act(x, b, dim, act, factors, kernel=kernel)
        ctx.how = dim, act, factors, kernel
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*((y, None) if _slope_shows(act, factors) else (x, b)))
        return y

    @staticmethod
    def backward(ctx: Any, gy: Tensor | None) -> tuple[Tensor | None, ...]:
        needs_gx, needs_gb = ctx.needs_input_grad[:2]
        gx = gb = None
        if gy is not None:  # as it is behind a second derivative that does not depend on x
            gx, gb = _gradient(gy, *ctx.saved_tensors, needs_gb, *ctx.how)
        return gx if needs_gx else None, gb if needs_gb else None, None, None, None, None


class _Gradient(torch.autograd.Function):
    """The derivative of `_BiasAct`: gx = gy * dy/dx, gb = sum of gx for each element of the bias.

    Here and below ``u`` is y where `_slope_shows` (and ``b`` is None), else x.
    """

    @staticmethod
    def forward(
        ctx: Any, gy: Tensor, u: Tensor, b: Tensor | None, needs_gb: bool, *how: Any
    ) -> tuple[Tensor, Tensor | None]:
        dim, act, factors, kernel = ctx.how = how
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(None if _slope_shows(act, factors) else gy, u, b)
        gx, gb = _bias_act_grad(gy, u, b, needs_gb, dim, act, factors, kernel=kernel)
        return gx, gb if needs_gb else None

    @staticmethod
    def backward(ctx: Any, v: Tensor | None, vb: Tensor | None) -> tuple[Tensor | None, ...]:
        gy, u, b = ctx.saved_tensors
        if vb is not None:
            vb = _along(vb, ctx.how[0], u.ndim)
            v = vb.expand_as(u) if v is None else v + vb
        gv = gx = gb = None
        if v is not None and gy is None:
            gv, _ = _gradient(v, u, b, False, *ctx.how)
        elif v is not None:
            gv, gx, gb = _Curvature.apply(v, gy, u, b, ctx.needs_input_grad[2], *ctx.how)
        return gv, gx, gb, None, None, None, None, None


def _gradient(gy: Tensor, u: Tensor, b: Tensor | None, needs_gb: bool, *how: Any) -> tuple[Tensor, Tensor | None]:
    if torch.is_grad_enabled():  # its derivative may be wanted
        return _Gradient.apply(gy, u, b, needs_gb, *how)
    dim, act, factors, kernel = how
    return _bias_act_grad(gy, u, b, needs_gb, dim, act, factors, kernel=kernel)


class _Curvature(torch.autograd.Function):
    """The derivative of `_Gradient` for curves: gv = v * dy/dx, gx = v * gy * d2y/dx2, gb = sum of gx."""

    @staticmethod
    def forward(
        ctx: Any, v: Tensor, gy: Tensor, x: Tensor, b: Tensor | None, needs_gb: bool, *how: Any
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        dim, act, factors, kernel = how
        gv, gx, gb = _bias_act_grad_grad(v, gy, x, b, needs_gb, dim, act, factors, kernel=kernel)
        return gv, gx, gb if needs_gb else None

    @staticmethod
    def backward(ctx: Any, *_grads: Any) -> None:
        raise NotImplementedError("bias_act: kernels have two derivatives, impl='ref' has all of them")


def _bias_act_ref(x: Tensor, b: Tensor | None, dim: int, act: str, factors: Factors) -> Tensor:
    if not _slope_shows(act, factors):
        return _definition(x, b, dim, act, factors)
    alpha, gain, clamp = factors
    # lrelu commutes with positive factors, so that the gain costs no pass of its own.
    y = x * gain if b is None else torch.add(_along(b * gain, dim, x.ndim), x, alpha=gain)
    if alpha == 0:
        y.relu_()  # where a slope of 0 would make NaN of minus infinity
    elif alpha != 1:
        functional.leaky_relu_(y, alpha)
    return y if clamp == math.inf else y.clamp_(-clamp, clamp)


@kernels.operation(reference=_bias_act_ref, fake=lambda x, *_: torch.empty_like(x))
def _bias_act(x: Tensor, b: Tensor | None, dim: int, act: str, factors: Factors) -> Tensor:
    return _launch(x, b, None, None, False, dim, act, factors)[0]


def _bias_grad(gx: Tensor, dim: int, needed: bool) -> Tensor:
    """Return the sum over all dimensions but ``dim``, or no element if it is not ``needed``."""
    if not needed:
        return gx.new_empty(0)
    return gx.sum([i for i in range(gx.ndim) if i != dim]) if gx.ndim > 1 else gx.clone()


def _empty_gradients(x: Tensor, dim: int, needs_gb: bool) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(x.shape[dim] if needs_gb else 0)


def _bias_act_grad_ref(
    gy: Tensor, u: Tensor, b: Tensor | None, needs_gb: bool, dim: int, act: str, factors: Factors
) -> tuple[Tensor, Tensor]:
    if not _slope_shows(act, factors):
        with torch.enable_grad():
            x = u.detach().requires_grad_()
            (gx,) = torch.autograd.grad(_definition(x, b, dim, act, factors), x, gy)
        return gx, _bias_grad(gx, dim, needs_gb)
    alpha, gain, clamp = factors
    gx = gy * gain
    if alpha != 1:
        gx = torch.ops.aten.leaky_relu_backward(gx, u, alpha, True)
    if clamp != math.inf:
        limit = _rounded(clamp, u.dtype)
        gx = torch.ops.aten.hardtanh_backward(gx, u, -limit, limit)
    return gx, _bias_grad(gx, dim, needs_gb)


@kernels.operation(
    reference=_bias_act_grad_ref,
    fake=lambda gy, u, b, needs_gb, dim, *_: _empty_gradients(u, dim, needs_gb),
)
def _bias_act_grad(
    gy: Tensor, u: Tensor, b: Tensor | None, needs_gb: bool, dim: int, act: str, factors: Factors
) -> tuple[Tensor, Tensor]:
    gx, _, gb = _launch(u, b, gy, None, needs_gb, dim, act, factors)
    return gx, gb


def _bias_act_grad_grad_ref(
    v: Tensor, gy: Tensor, x: Tensor, b: Tensor | None, needs_gb: bool, dim: int, act: str, factors: Factors
) -> tuple[Tensor, Tensor, Tensor]:
    with torch.enable_grad():
        x, gy = x.detach().requires_grad_(), gy.detach().requires_grad_()
        (gx,) = torch.autograd.grad(_definition(x, b, dim, act, factors), x, gy, create_graph=True)
        gv, gxx = torch.autograd.grad(gx, [gy, x], v, materialize_grads=True)
    return gv, gxx, _bias_grad(gxx, dim, needs_gb)


@kernels.operation(
    reference=_bias_act_grad_grad_ref,
    fake=lambda v, gy, x, b, needs_gb, dim, *_: (torch.empty_like(x), *_empty_gradients(x, dim, needs_gb)),
)
def _bias_act_grad_grad(
    v: Tensor, gy: Tensor, x: Tensor, b: Tensor | None, needs_gb: bool, dim: int, act: str, factors: Factors
) -> tuple[Tensor, Tensor, Tensor]:
    return _launch(x, b, gy, v, needs_gb, dim, act, factors)


def _launch(
    u: Tensor,
    b: Tensor | None,
    gy: Tensor | None,
    v: Tensor | None,
    needs_gb: bool,
    dim: int,
    act: str,
    factors: Factors,
) -> tuple[Tensor, Any, Tensor]:
    """Return what the kernel makes: out, curved or None, and the gradient of the bias or no element.

    The kernel sees a matrix in the order of memory. Where channels vary fastest (channels-last images, features) they
    are the columns. Otherwise each row belongs to one channel; where all elements do, there is one row.
    """
    out = torch.empty_like(u)
    curved = None if v is None else torch.empty_like(out)
    channels = u.shape[dim] if b is not None or needs_gb else 1
    if u.numel() == 0:
        return out, curved, u.new_zeros(channels if needs_gb else 0)
    cols = _num_within(out, dim) if channels > 1 else u.numel()
    by_row = cols > 1
    cols = cols if by_row else channels
    rows = u.numel() // cols
    C = min(ceil_power_of_2(cols), BLOCK_SIZE if by_row else MAX_BLOCK_CHANNELS)
    R = BLOCK_SIZE // C
    row_blocks, col_blocks = -(-rows // R), -(-cols // C)
    sums = None
    if needs_gb:  # partial sums, so that the result is the same every time
        shape = [rows, col_blocks] if by_row else [row_blocks, cols]
        sums = u.new_empty(shape, dtype=torch.promote_types(u.dtype, torch.float32))
    alpha, gain, clamp = factors
    limit = _rounded(clamp, u.dtype)
    kernels.compiled(_bias_act_kernel)[(row_blocks * col_blocks,)](
        *(tensor if tensor is None else _laid_out_like(out, tensor) for tensor in (u, gy, v)),
        *(b if b is None else b.contiguous(), out, curved, sums, rows, cols, channels, col_blocks),
        *(alpha, gain, None if limit == math.inf else limit),
        ACT=act,
        IS_Y=gy is not None and _slope_shows(act, factors),
        BY_ROW=by_row,
        R=R,
        C=C,
        num_warps=8,
    )
    if sums is None:
        return out, curved, u.new_empty(0)
    total = sums.view(-1, channels, col_blocks).sum([0, 2]) if by_row else sums.sum(0)
    return out, curved, total.to(u.dtype)


def _num_within(x: Tensor, dim: int) -> int:
    """Return how many elements of a dense tensor lie between two that are neighbors in ``dim``."""
    return math.prod(size for size, stride in zip(x.shape, x.stride(), strict=True) if stride < x.stride(dim))


def _laid_out_like(pattern: Tensor, x: Tensor) -> Tensor:
    """Return ``x``, or a copy whose elements lie in memory like those of ``pattern``."""
    strides = zip(x.shape, x.stride(), pattern.stride(), strict=True)
    if all(stride == wanted for size, stride, wanted in strides if size > 1):
        return x
    return torch.empty_like(pattern).copy_(x)


@functools.cache
def _rounded(value: float, dtype: torch.dtype) -> float:
    """Round a limit as the results are rounded that lie on it."""
    return float(torch.tensor(value, dtype=dtype, device="cpu"))


@no_type_check
def _bias_act_kernel(
    x, gy, v, b, out, curved, sums, rows, cols, channels, col_blocks, alpha, gain, clamp,
    ACT: tl.constexpr, IS_Y: tl.constexpr, BY_ROW: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Compute the block [R, C] of a program in matrices [rows, cols].

    Without ``gy``: out = y. Without ``v``: out = gy * dy/dx, and its sums. Else: out = v * dy/dx, and
    curved = v * gy * d2y/dx2 and its sums. They are of one program each. Where IS_Y, x is the y of the forward pass.
    """
    dtype: tl.constexpr = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    col_block = tl.program_id(0) % col_blocks
    row = (tl.program_id(0) // col_blocks).to(tl.int64) * R
    col = col_block.to(tl.int64) * C
    r = tl.arange(0, R)
    c = tl.arange(0, C)
    r_inside = r < tl.minimum(rows - row, R).to(tl.int32)
    c_inside = c < tl.minimum(cols - col, C).to(tl.int32)
    inside = r_inside[:, None] & c_inside[None, :]
    start = row * cols + col
    at = r[:, None] * cols + c[None, :]
    u = tl.load(x + start + at, inside, other=0.0).to(dtype)
    if b is not None:
        if BY_ROW:
            u += tl.load(b + ((row % channels).to(tl.int32) + r) % channels, r_inside, other=0.0).to(dtype)[:, None]
        else:
            u += tl.load(b + col + c, c_inside, other=0.0).to(dtype)[None, :]
    y, slope, curvature = _curve(u, alpha, ACT)
    if gy is None:
        y *= gain
        if clamp is not None:
            y = tl.clamp(y, -clamp, clamp, tl.PropagateNan.ALL)
        tl.store(out + start + at, y.to(out.dtype.element_ty), inside)
    else:
        factor = gain
        if clamp is not None:
            if IS_Y:
                factor = tl.where(tl.abs(u) >= clamp, 0.0, gain)
            else:
                factor = tl.where(tl.abs(y * gain) > clamp, 0.0, gain)
        g = tl.load(gy + start + at, inside, other=0.0).to(dtype)
        if v is None:
            summed = g * (slope * factor)
            tl.store(out + start + at, summed.to(out.dtype.element_ty), inside)
        else:
            w = tl.load(v + start + at, inside, other=0.0).to(dtype)
            tl.store(out + start + at, (w * (slope * factor)).to(out.dtype.element_ty), inside)
            summed = w * g * (curvature * factor)
            tl.store(curved + start + at, summed.to(curved.dtype.element_ty), inside)
        if sums is not None:
            if BY_ROW:
                tl.store(sums + (row + r) * col_blocks + col_block, tl.sum(summed, 1), r_inside)
            else:
                tl.store(sums + (row // R) * cols + col + c, tl.sum(summed, 0), c_inside)


@no_type_check
def _curve(u, alpha, ACT: tl.constexpr):
    """Return act(u), its slope and its curvature, free of overflow and, at both ends, of cancellation."""
    if ACT == "lrelu":
        if alpha == 0:  # a product would make NaN of minus infinity
            y = tl.maximum(u, 0.0, propagate_nan=tl.PropagateNan.ALL)
        else:
            y = tl.where(u > 0, u, u * alpha)
        slope = tl.where(u > 0, 1.0, alpha)
        curvature = tl.zeros_like(u)
    elif ACT == "elu" or ACT == "selu":
        scale: tl.constexpr = 1.0507009873554805 if ACT == "selu" else 1.0
        depth: tl.constexpr = 1.0507009873554805 * 1.6732632423543772 if ACT == "selu" else 1.0
        q = _expm1(tl.where(u > 0, 0.0, u))
        y = tl.where(u > 0, scale * u, depth * q)
        slope = tl.where(u > 0, scale, depth * (1 + q))
        curvature = tl.where(u > 0, 0.0, depth * (1 + q))
    elif ACT == "tanh":
        q = _expm1(-2 * tl.abs(u))
        y = tl.where(u > 0, -q, q) / (2 + q)
        slope = 4 * (1 + q) / ((2 + q) * (2 + q))
        curvature = -2 * y * slope
    else:
        e = tl.exp(-tl.abs(u))
        sigmoid = tl.where(u > 0, 1.0, e) / (1 + e)
        bell = e / ((1 + e) * (1 + e))  # the slope of sigmoid
        if ACT == "sigmoid":
            y = sigmoid
            slope = bell
            curvature = bell * (1 - 2 * sigmoid)
        elif ACT == "softplus":
            y = tl.where(u > 0, u, 0.0) + _log1p(e)
            slope = sigmoid
            curvature = bell
        else:  # swish
            y = u * sigmoid
            slope = sigmoid + u * bell
            curvature = bell * (2 + u * (1 - 2 * sigmoid))
    return y, slope, curvature


@no_type_check
def _expm1(u):
    """Return exp(u) - 1 to float32 precision, which tl lacks and Triton's interpreter cannot take from CUDA."""
    series = u * (1 + u / 2 * (1 + u / 3 * (1 + u / 4 * (1 + u / 5 * (1 + u / 6)))))
    return tl.where(tl.abs(u) < 0.25, series, tl.exp(u) - 1)


@no_type_check
def _log1p(e):
    """Return log(1 + e) to float32 precision for e in 0..1: twice the series of atanh(e / (2 + e))."""
    s = e / (2 + e)
    q = s * s
    return 2 * s * (1 + q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * (1 / 11 + q / 13))))))
