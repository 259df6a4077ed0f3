"""Scale, noise, bias and activation of a synthesis layer in one pass over memory (StyleGAN2, arXiv 1912.04958).

A layer computes clamp(gain * lrelu(dcoefs * conv(styles * x, weight) + strength * noise + bias)). Either factor per
sample and channel, and all that follows the convolution, are one operation here: one pass forward, one backward, and
one for the second derivative, which path length regularization needs. `demodulation` prepares styles and dcoefs.

Derivatives read x and compute the argument of the activation again. Letters in shapes: N batch, C channels, H, W
pixels, P = H W, S programs that share the pixels of an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, no_type_check

import torch
from torch import Tensor
from torch.nn import functional

from torch_utils.ops import bias_act, kernels
from torch_utils.ops.layout import dense
from torch_utils.ops.tiles import Tiling

tl: Any = None  # bound by kernels.compiled

Shift = Sequence[Tensor | None]
"""Noise, its strength and the bias; all or the first two may be None."""

Factors = Sequence[float]
"""slope, gain and clamp of the activation clamp(gain * lrelu(v, slope)): slope 1 is linear, 0 is relu."""

NO_ACT = [1.0, 1.0, math.inf]


def is_fused(x: Tensor) -> bool:
    """Return whether the operations of this module run as kernels on ``x`` by default."""
    return kernels.are_wanted("auto", x)


def modulate(x: Tensor, styles: Tensor, impl: str = "auto") -> Tensor:
    """Scale each channel of each sample.

    Args:
        x: ``[N, C, H, W]``.
        styles: ``[N, C]``, float32 or the dtype of ``x``.
        impl: One of `kernels.IMPLS`.

    Returns:
        ``[N, C, H, W]`` with the dtype and memory format of ``x``.

    Raises:
        ValueError: An argument has a wrong shape, or ``impl`` a wrong value.
    """
    kernels.check_impl("modulate", impl)
    _check_shape("modulate", "styles", styles, x.shape[:2])
    return _apply(x, styles, [None, None, None], NO_ACT, kernels.are_wanted(impl, x))


def epilogue(
    x: Tensor,
    dcoefs: Tensor,
    noise: Tensor | None,
    noise_strength: Tensor | None,
    bias: Tensor,
    act: str = "lrelu",
    gain: float | None = None,
    clamp: float | None = None,
    impl: str = "auto",
) -> Tensor:
    """Demodulate, add noise and bias, activate, scale and clamp.

    Activations that are not made of straight lines, and noise that needs a gradient, take several passes.

    Args:
        x: Result of a convolution, ``[N, C, H, W]``.
        dcoefs: ``[N, C]``, float32 or the dtype of ``x``.
        noise: ``[N, 1, H, W]``, one map ``[H, W]`` for all samples, or None.
        noise_strength: Factor of the noise, ``[]``; without noise not used.
        bias: ``[C]``, float32 or the dtype of ``x``.
        act: A key of `bias_act.activation_funcs`.
        gain: Factor after the activation; None takes the activation's default.
        clamp: Limit of the magnitude of the result, or None.
        impl: One of `kernels.IMPLS`.

    Returns:
        ``[N, C, H, W]`` with the dtype and memory format of ``x``.

    Raises:
        ValueError: An argument has a wrong shape, or ``impl`` a wrong value.
    """
    kernels.check_impl("epilogue", impl)
    num, channels, *size = x.shape
    _check_shape("epilogue", "dcoefs", dcoefs, [num, channels])
    _check_shape("epilogue", "bias", bias, [channels])
    if noise is not None:
        _check_shape("epilogue", "noise", noise, [num, 1, *size] if noise.ndim == 4 else size)
    spec = bias_act.activation_funcs[act]
    gain = spec.def_gain if gain is None else float(gain)
    shift = None if noise is None else noise.contiguous(), None if noise is None else noise_strength, bias
    if not spec.is_piecewise_linear or gain <= 0 or (noise is not None and noise.requires_grad):
        x = _scale_act_reference(x, dcoefs, [*shift[:2], None], NO_ACT)
        return bias_act.bias_act(x, bias.to(x.dtype), act=act, gain=gain, clamp=clamp)
    factors = [1.0 if act == "linear" else spec.def_alpha, gain, math.inf if clamp is None else float(clamp)]
    return _apply(x, dcoefs, shift, factors, kernels.are_wanted(impl, x))


def _check_shape(function: str, name: str, tensor: Tensor, shape: Sequence[int]) -> None:
    if tensor.shape != torch.Size(shape):  # kernels would read beyond its end
        raise ValueError(f"{function}: {name} must have shape {list(shape)}, got {list(tensor.shape)}")


@no_type_check
def _scale_act_kernel(
    x, scale, noise, strength, bias, y, C, P, sn, sp, sc, noise_n, slope, gain, clamp,
    BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Compute a tile of y; x is seen as [N, P, C]."""
    n = tl.program_id(2).to(tl.int64)
    p = tl.program_id(0) * BP + tl.arange(0, BP)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    inside = (p < P)[:, None] & (c < C)[None, :]
    at = n * sn + (p * sp)[:, None] + (c * sc)[None, :]
    v = tl.load(x + at, inside, other=0.0).to(tl.float32)
    v *= tl.load(scale + n * C + c, c < C, other=0.0).to(tl.float32)[None, :]
    if bias is not None:
        v += _shift(noise, strength, bias, n * noise_n, p, P, c, C)
        if slope == 0:  # a product would make NaN of minus infinity
            v = tl.maximum(v, 0.0, propagate_nan=tl.PropagateNan.ALL)
        else:
            v = tl.where(v > 0, v, v * slope)
        v = tl.clamp(v * gain, -clamp, clamp, propagate_nan=tl.PropagateNan.ALL)
    tl.store(y + at, v.to(y.dtype.element_ty), inside)


def _scale_act_reference(x: Tensor, scale: Tensor, shift: Shift, act: Factors) -> Tensor:
    """Compute the definition; differentiable to any order."""
    noise, strength, bias = shift
    y = x * scale[:, :, None, None]
    if noise is not None and strength is not None:
        y = y + noise * strength
    if bias is not None:
        slope, gain, clamp = act
        y = y + bias[:, None, None]
        y = functional.relu(y) if slope == 0 else functional.leaky_relu(y, slope)
        y = (y * gain).clamp(-clamp, clamp)
    return y.to(x.dtype)


@kernels.operation(reference=_scale_act_reference, fake=lambda x, *_: torch.empty_like(x))
def _scale_act(x: Tensor, scale: Tensor, shift: Shift, act: Factors) -> Tensor:
    y, tiling = torch.empty_like(x), Tiling.of(x)
    if x.numel() > 0:
        kernels.compiled(_scale_act_kernel)[tiling.grid](
            *(x, scale, *shift, y, *tiling.layout, _noise_stride(shift), *act), **tiling.block
        )
    return y


def _noise_stride(shift: Shift) -> int:
    """Return how many elements the noise of one sample is from that of the next."""
    noise = shift[0]
    return 0 if noise is None or noise.ndim == 2 else noise.shape[2] * noise.shape[3]


@no_type_check
def _scale_act_grad_kernel(
    g, x, scale, noise, strength, bias, gx, sums, C, P, sn, sp, sc, noise_n, tiles, slope, gain, clamp,
    BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Compute tiles of gx = h * scale, and sums over them of h * x, h and h * noise; h is g before the activation."""
    n = tl.program_id(2).to(tl.int64)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    factor = tl.load(scale + n * C + c, c < C, other=0.0).to(tl.float32)[None, :]
    sum_x = tl.zeros([BP, BC], tl.float32)
    sum_1 = tl.zeros([BP, BC], tl.float32)
    sum_z = tl.zeros([BP, BC], tl.float32)
    for tile in range(tl.program_id(0) * tiles, (tl.program_id(0) + 1) * tiles):
        p = tile * BP + tl.arange(0, BP)
        inside = (p < P)[:, None] & (c < C)[None, :]
        at = n * sn + (p * sp)[:, None] + (c * sc)[None, :]
        h = tl.load(g + at, inside, other=0.0).to(tl.float32)
        u = tl.load(x + at, inside, other=0.0).to(tl.float32)
        if bias is not None:
            v = u * factor + _shift(noise, strength, bias, n * noise_n, p, P, c, C)
            h *= _derivative(v, slope, gain, clamp)
            sum_1 += h
        sum_x += h * u
        tl.store(gx + at, (h * factor).to(gx.dtype.element_ty), inside)
        if noise is not None:
            sum_z += h * tl.load(noise + n * noise_n + p, p < P, other=0.0).to(tl.float32)[:, None]
    plane = tl.num_programs(2).to(tl.int64) * C
    num_sums = 1 + (bias is not None) + (noise is not None)
    sums += tl.program_id(0) * num_sums * plane + n * C
    tl.store(sums + c, tl.sum(sum_x, 0), c < C)
    if bias is not None:
        tl.store(sums + plane + c, tl.sum(sum_1, 0), c < C)
    if noise is not None:
        tl.store(sums + 2 * plane + c, tl.sum(sum_z, 0), c < C)


@no_type_check
def _shift(noise, strength, bias, noise_start, p, P, c, C):
    """Load strength * noise + bias of a tile."""
    shift = tl.load(bias + c, c < C, other=0.0).to(tl.float32)[None, :]
    if noise is not None:
        z = tl.load(noise + noise_start + p, p < P, other=0.0).to(tl.float32)
        shift += (z * tl.load(strength).to(tl.float32))[:, None]
    return shift


@no_type_check
def _derivative(v, slope, gain, clamp):
    """Compute that of clamp(gain * lrelu(v))."""
    factor = tl.where(v > 0, gain, gain * slope)
    return tl.where(tl.abs(v * factor) >= clamp, 0.0, factor)


def _before_act(g: Tensor, x: Tensor, scale: Tensor, shift: Shift, act: Factors) -> Tensor:
    """Return the gradient of the activation's argument from that of its result."""
    if shift[2] is None:
        return g
    slope, gain, clamp = act
    with torch.no_grad():
        v = _scale_act_reference(x.to(_sum_dtype(x)), scale, shift, NO_ACT)
        factor = torch.where(v > 0, gain, gain * slope)
        factor = factor.masked_fill((v * factor).abs() >= clamp, 0)
    return g * factor.to(g.dtype)


def _sum_dtype(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _scale_act_grad_reference(g: Tensor, x: Tensor, scale: Tensor, shift: Shift, act: Factors) -> tuple[Tensor, Tensor]:
    """Compute the same with S = 1; differentiable to any order in g, x and scale."""
    h = _before_act(g, x, scale, shift, act).to(_sum_dtype(x))
    noise, _strength, bias = shift
    terms = [h * x, *([] if bias is None else [h]), *([] if noise is None else [h * noise])]
    return (h * scale[:, :, None, None]).to(x.dtype), torch.stack([term.sum([2, 3]) for term in terms])[None]


def _scale_act_grad_fake(g: Tensor, x: Tensor, scale: Tensor, shift: Shift, *_: Any) -> tuple[Tensor, Tensor]:
    num_sums = 1 + (shift[0] is not None) + (shift[2] is not None)
    shape = [Tiling.of(x, sums=True).grid[0], num_sums, *x.shape[:2]]
    return torch.empty_like(x), x.new_empty(shape, dtype=_sum_dtype(x))


@kernels.operation(reference=_scale_act_grad_reference, fake=_scale_act_grad_fake)
def _scale_act_grad(g: Tensor, x: Tensor, scale: Tensor, shift: Shift, act: Factors) -> tuple[Tensor, Tensor]:
    """Return gx and partial sums [S, K, N, C]: K are h * x, with a bias also h, with noise also h * noise."""
    gx, sums = _scale_act_grad_fake(g, x, scale, shift)
    if x.numel() == 0:
        return gx, sums.zero_()
    tiling = Tiling.of(x, sums=True)
    kernels.compiled(_scale_act_grad_kernel)[tiling.grid](
        *(g, x, scale, *shift, gx, sums, *tiling.layout, _noise_stride(shift), tiling.tiles, *act),
        **tiling.block,
        num_warps=8,
    )
    return gx, sums


@no_type_check
def _scale_act_grad2_kernel(
    v_gx, v_scale, g, x, scale, noise, strength, bias, gg, gx, sums,
    C, P, sn, sp, sc, noise_n, tiles, slope, gain, clamp, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Compute tiles of gg = act' * (v_gx * scale + v_scale * x) and gx = h * v_scale, and sums of v_gx * h."""
    n = tl.program_id(2).to(tl.int64)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    factor = tl.load(scale + n * C + c, c < C, other=0.0).to(tl.float32)[None, :]
    v_factor = tl.load(v_scale + n * C + c, c < C, other=0.0).to(tl.float32)[None, :]
    total = tl.zeros([BP, BC], tl.float32)
    for tile in range(tl.program_id(0) * tiles, (tl.program_id(0) + 1) * tiles):
        p = tile * BP + tl.arange(0, BP)
        inside = (p < P)[:, None] & (c < C)[None, :]
        at = n * sn + (p * sp)[:, None] + (c * sc)[None, :]
        h = tl.load(g + at, inside, other=0.0).to(tl.float32)
        u = tl.load(x + at, inside, other=0.0).to(tl.float32)
        w = tl.load(v_gx + at, inside, other=0.0).to(tl.float32)
        v_h = w * factor + v_factor * u
        if bias is not None:
            v = u * factor + _shift(noise, strength, bias, n * noise_n, p, P, c, C)
            derivative = _derivative(v, slope, gain, clamp)
            h *= derivative
            v_h *= derivative
        total += w * h
        tl.store(gg + at, v_h.to(gg.dtype.element_ty), inside)
        tl.store(gx + at, (h * v_factor).to(gx.dtype.element_ty), inside)
    at = (tl.program_id(0) * tl.num_programs(2) + n) * C + c
    tl.store(sums + at, tl.sum(total, 0), c < C)


def _scale_act_grad2_reference(
    v_gx: Tensor, v_scale: Tensor, g: Tensor, x: Tensor, scale: Tensor, shift: Shift, act: Factors
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the same with S = 1."""
    h = _before_act(g, x, scale, shift, act).to(_sum_dtype(x))
    v_factor = v_scale[:, :, None, None]
    gg = _before_act(v_gx * scale[:, :, None, None] + v_factor * x, x, scale, shift, act)
    return gg.to(x.dtype), (h * v_factor).to(x.dtype), (v_gx * h).sum([2, 3])[None]


def _scale_act_grad2_fake(
    v_gx: Tensor, v_scale: Tensor, g: Tensor, x: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    shape = [Tiling.of(x, sums=True).grid[0], *x.shape[:2]]
    return torch.empty_like(x), torch.empty_like(x), x.new_empty(shape, dtype=_sum_dtype(x))


@kernels.operation(reference=_scale_act_grad2_reference, fake=_scale_act_grad2_fake)
def _scale_act_grad2(
    v_gx: Tensor, v_scale: Tensor, g: Tensor, x: Tensor, scale: Tensor, shift: Shift, act: Factors
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the derivatives of v_gx * gx + v_scale * (sum of h * x) for g, x, and scale: partial sums [S, N, C]."""
    gg, gx, sums = _scale_act_grad2_fake(v_gx, v_scale, g, x)
    if x.numel() == 0:
        return gg, gx, sums.zero_()
    tiling = Tiling.of(x, sums=True)
    kernels.compiled(_scale_act_grad2_kernel)[tiling.grid](
        *(v_gx, v_scale, g, x, scale, *shift, gg, gx, sums),
        *(*tiling.layout, _noise_stride(shift), tiling.tiles, *act),
        **tiling.block,
        num_warps=8,
    )
    return gg, gx, sums


def _apply(x: Tensor, scale: Tensor, shift: Shift, act: Factors, kernel: bool) -> Tensor:
    """Compute act(x * scale + strength * noise + bias), or x * scale if there is no bias."""
    x, scale = dense(x, like=x), scale.contiguous()
    if torch.is_grad_enabled():
        return _ScaleAct.apply(x, scale, *shift, act, kernel)
    return _scale_act(x, scale, shift, act, kernel=kernel)


class _ScaleAct(torch.autograd.Function):
    """Computes `_apply` of tensors without gaps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, *args: Any) -> Tensor:
        *shift, act, kernel = args
        ctx.save_for_backward(x, scale, *shift)
        ctx.act, ctx.kernel = act, kernel
        return _scale_act(x, scale, shift, act, kernel=kernel)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad[3:5]
        g = dense(g, like=saved[0])
        gx, gscale, gstrength, gbias = _ScaleActGrad.apply(g, *saved, *needed, ctx.act, ctx.kernel)
        return gx, gscale, None, gstrength, gbias, None, None


class _ScaleActGrad(torch.autograd.Function):
    """Computes the gradients of `_ScaleAct` for x, scale, strength and bias."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, scale: Tensor, *args: Any) -> tuple[Tensor | None, ...]:
        *shift, needs_strength, needs_bias, act, kernel = args
        ctx.save_for_backward(g, x, scale, *shift)
        ctx.act, ctx.kernel = act, kernel
        ctx.set_materialize_grads(False)
        gx, sums = _scale_act_grad(g, x, scale, shift, act, kernel=kernel)
        return gx, *_total(sums, needs_strength, needs_bias)

    @staticmethod
    def backward(ctx: Any, *v: Tensor | None) -> tuple[Tensor | None, ...]:
        g, x, scale, *shift = ctx.saved_tensors
        v_gx, v_scale, v_strength, v_bias = v
        if v_gx is None or v_scale is None or v_strength is not None or v_bias is not None or torch.is_grad_enabled():
            # Rare: gradients other than path length regularization uses, or a third derivative.
            def gradients(g: Tensor, x: Tensor, scale: Tensor) -> tuple[Tensor | None, ...]:
                gx, sums = _scale_act_grad_reference(g, x, scale, shift, ctx.act)
                return gx, *_total(sums, v_strength is not None, v_bias is not None)

            gg, gx, gscale = _differentiate(gradients, (g, x, scale), v)
        else:
            v_gx, v_scale = dense(v_gx, like=x), v_scale.contiguous()
            gg, gx, sums = _scale_act_grad2(v_gx, v_scale, g, x, scale, shift, ctx.act, kernel=ctx.kernel)
            gscale = _sum_splits(sums)
        return gg, gx, gscale, *[None] * 7


def _total(sums: Tensor, needs_strength: bool, needs_bias: bool) -> tuple[Tensor | None, ...]:
    """Return the gradients of scale, strength and bias from partial sums [S, K, N, C]."""
    strength = sums[:, 2].sum() if needs_strength else None
    return _sum_splits(sums[:, 0]), strength, sums[:, 1].sum([0, 1]) if needs_bias else None


def _sum_splits(sums: Tensor) -> Tensor:
    return sums[0] if sums.shape[0] == 1 else sums.sum(0)


def _differentiate(
    function: Callable[..., tuple[Tensor | None, ...]], inputs: tuple[Tensor, ...], grads: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, ...]:
    """Return the gradients of ``inputs`` from those of the results; themselves differentiable if grad mode is on."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        inputs = tuple(each.view_as(each) if each.requires_grad else each.detach().requires_grad_() for each in inputs)
        pairs = [(result, grad) for result, grad in zip(function(*inputs), grads, strict=True) if grad is not None]
        if not pairs:
            return (None,) * len(inputs)
        results, given = zip(*pairs, strict=True)
        return torch.autograd.grad(results, inputs, given, create_graph=create_graph, allow_unused=True)
