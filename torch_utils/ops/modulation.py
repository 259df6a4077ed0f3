"""Scale, noise, bias and activation of a synthesis layer in one pass over memory (StyleGAN2, arXiv 1912.04958).

A layer computes clamp(gain * lrelu(dcoefs * conv(styles * x, weight) + strength * noise + bias)). Either factor per
sample and channel, and all that follows the convolution, are one operation here: one pass forward, one backward, and
one for the second derivative, which path length regularization needs. `demodulation` prepares styles and dcoefs.

As in `bias_act`, the slope of the activation is read off the result y. Letters in shapes: N batch, C channels, H, W
pixels, P = H W, S programs that share the pixels of an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, no_type_check

import torch
from torch import Tensor
from torch.nn import functional

from torch_utils.ops import bias_act, kernels
from torch_utils.ops.layout import dense
from torch_utils.ops.tiles import Tiling

tl: Any = None  # bound by kernels.compiled


class _Act(NamedTuple):
    """clamp(gain * lrelu(v, slope)): slope 1 is linear, 0 is relu."""

    slope: float = 1.0
    gain: float = 1.0
    clamp: float = math.inf


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
    return _apply(x, styles, None, None, None, _Act(), kernels.are_wanted(impl, x))


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
    if not spec.is_piecewise_linear or gain <= 0 or (noise is not None and noise.requires_grad):
        x = _scale_act_reference(x, dcoefs, noise, noise_strength, None, _Act())
        return bias_act.bias_act(x, bias.to(x.dtype), act=act, gain=gain, clamp=clamp)
    setting = _Act(1.0 if act == "linear" else spec.def_alpha, gain, math.inf if clamp is None else float(clamp))
    strength = None if noise is None else noise_strength
    return _apply(x, dcoefs, noise, strength, bias, setting, kernels.are_wanted(impl, x))


def _check_shape(function: str, name: str, tensor: Tensor, shape: Sequence[int]) -> None:
    if tensor.shape != torch.Size(shape):  # kernels would read beyond its end
        raise ValueError(f"{function}: {name} must have shape {list(shape)}, got {list(tensor.shape)}")


# --- value ---


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
    if noise is not None:
        z = tl.load(noise + n * noise_n + p, p < P, other=0.0).to(tl.float32)
        v += (z * tl.load(strength).to(tl.float32))[:, None]
    if bias is not None:
        v += tl.load(bias + c, c < C, other=0.0).to(tl.float32)[None, :]
        v = tl.where(v > 0, v, v * slope) * gain
        v = tl.clamp(v, -clamp, clamp, propagate_nan=tl.PropagateNan.ALL)
    tl.store(y + at, v.to(y.dtype.element_ty), inside)


def _scale_act_reference(
    x: Tensor, scale: Tensor, noise: Tensor | None, strength: Tensor | None, bias: Tensor | None, act: Sequence[float]
) -> Tensor:
    """Compute the definition; differentiable to any order."""
    slope, gain, clamp = act
    y = x * scale[:, :, None, None]
    if noise is not None and strength is not None:
        y = y + noise * strength
    if bias is not None:
        y = (functional.leaky_relu(y + bias[:, None, None], slope) * gain).clamp(-clamp, clamp)
    return y.to(x.dtype)


@kernels.operation(reference=_scale_act_reference, fake=lambda x, *_: torch.empty_like(x))
def _scale_act(
    x: Tensor, scale: Tensor, noise: Tensor | None, strength: Tensor | None, bias: Tensor | None, act: Sequence[float]
) -> Tensor:
    y, tiling = torch.empty_like(x), Tiling.of(x)
    if x.numel() > 0:
        kernels.compiled(_scale_act_kernel)[tiling.grid](
            *(x, scale, noise, strength, bias, y, *tiling.layout, _noise_stride(noise), *act), **tiling.block
        )
    return y


def _noise_stride(noise: Tensor | None) -> int:
    """Elements from the noise of one sample to that of the next."""
    return 0 if noise is None or noise.ndim == 2 else noise.shape[2] * noise.shape[3]


# --- first derivative ---


@no_type_check
def _scale_act_grad_kernel(
    g, x, y, scale, noise, gx, sums, C, P, sn, sp, sc, noise_n, tiles, slope, gain, clamp,
    BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Compute tiles of gx = h * scale, and sums over them of h * x, h and h * noise; h is g before the activation."""
    n = tl.program_id(2).to(tl.int64)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    factor = tl.load(scale + n * C + c, c < C, other=0.0).to(tl.float32)[None, :]
    limit = (tl.zeros([1, 1], tl.float32) + clamp).to(gx.dtype.element_ty).to(tl.float32)  # rounded as y was
    sum_x = tl.zeros([BP, BC], tl.float32)
    sum_1 = tl.zeros([BP, BC], tl.float32)
    sum_z = tl.zeros([BP, BC], tl.float32)
    for tile in range(tl.program_id(0) * tiles, (tl.program_id(0) + 1) * tiles):
        p = tile * BP + tl.arange(0, BP)
        inside = (p < P)[:, None] & (c < C)[None, :]
        at = n * sn + (p * sp)[:, None] + (c * sc)[None, :]
        h = tl.load(g + at, inside, other=0.0).to(tl.float32)
        if y is not None:
            h *= _slope(tl.load(y + at, inside, other=0.0).to(tl.float32), slope, gain, limit)
            sum_1 += h
        tl.store(gx + at, (h * factor).to(gx.dtype.element_ty), inside)
        sum_x += h * tl.load(x + at, inside, other=0.0).to(tl.float32)
        if noise is not None:
            sum_z += h * tl.load(noise + n * noise_n + p, p < P, other=0.0).to(tl.float32)[:, None]
    plane = tl.num_programs(2).to(tl.int64) * C
    num_sums = 1 + (y is not None) + (noise is not None)
    sums += tl.program_id(0) * num_sums * plane + n * C
    tl.store(sums + c, tl.sum(sum_x, 0), c < C)
    if y is not None:
        tl.store(sums + plane + c, tl.sum(sum_1, 0), c < C)
    if noise is not None:
        tl.store(sums + 2 * plane + c, tl.sum(sum_z, 0), c < C)


@no_type_check
def _slope(y, slope, gain, limit):
    """Compute the derivative of the activation from its result."""
    return tl.where(tl.abs(y) >= limit, 0.0, tl.where(y > 0, gain, gain * slope))


def _before_act(g: Tensor, y: Tensor | None, act: Sequence[float]) -> Tensor:
    """Return the gradient of the activation's argument from that of y, which without activation is the same."""
    if y is None:
        return g
    slope, gain, clamp = act
    return g * torch.where(y > 0, gain, gain * slope).masked_fill(y.abs() >= clamp, 0).to(g.dtype)


def _scale_act_grad_reference(
    g: Tensor, x: Tensor, y: Tensor | None, scale: Tensor, noise: Tensor | None, act: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Compute the same with S = 1; differentiable to any order in g, x and scale."""
    h = _before_act(g, y, act).to(_sum_dtype(x))
    terms = [h * x, *([] if y is None else [h]), *([] if noise is None else [h * noise])]
    return (h * scale[:, :, None, None]).to(x.dtype), torch.stack([term.sum([2, 3]) for term in terms])[None]


def _scale_act_grad_fake(g: Tensor, x: Tensor, y: Any, scale: Tensor, noise: Any, *_: Any) -> tuple[Tensor, Tensor]:
    num_sums = 1 + (y is not None) + (noise is not None)
    shape = [Tiling.of(x, sums=True).grid[0], num_sums, *x.shape[:2]]
    return torch.empty_like(x), x.new_empty(shape, dtype=_sum_dtype(x))


def _sum_dtype(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


@kernels.operation(reference=_scale_act_grad_reference, fake=_scale_act_grad_fake)
def _scale_act_grad(
    g: Tensor, x: Tensor, y: Tensor | None, scale: Tensor, noise: Tensor | None, act: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Return gx and partial sums [S, K, N, C]: K are h * x, with y also h, with noise also h * noise."""
    gx, sums = _scale_act_grad_fake(g, x, y, scale, noise)
    if x.numel() == 0:
        return gx, sums.zero_()
    tiling = Tiling.of(x, sums=True)
    kernels.compiled(_scale_act_grad_kernel)[tiling.grid](
        *(g, x, y, scale, noise, gx, sums, *tiling.layout, _noise_stride(noise), tiling.tiles, *act),
        **tiling.block,
        num_warps=8,
    )
    return gx, sums


# --- second derivative ---


@no_type_check
def _scale_act_grad2_kernel(
    v, v_scale, g, x, y, scale, gg, gx, sums, C, P, sn, sp, sc, tiles, slope, gain, clamp,
    BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Compute tiles of gg = act' * (v * scale + v_scale * x) and gx = h * v_scale, and sums of v * h."""
    n = tl.program_id(2).to(tl.int64)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    factor = tl.load(scale + n * C + c, c < C, other=0.0).to(tl.float32)[None, :]
    v_factor = tl.load(v_scale + n * C + c, c < C, other=0.0).to(tl.float32)[None, :]
    limit = (tl.zeros([1, 1], tl.float32) + clamp).to(gx.dtype.element_ty).to(tl.float32)  # rounded as y was
    total = tl.zeros([BP, BC], tl.float32)
    for tile in range(tl.program_id(0) * tiles, (tl.program_id(0) + 1) * tiles):
        p = tile * BP + tl.arange(0, BP)
        inside = (p < P)[:, None] & (c < C)[None, :]
        at = n * sn + (p * sp)[:, None] + (c * sc)[None, :]
        h = tl.load(g + at, inside, other=0.0).to(tl.float32)
        v_gx = tl.load(v + at, inside, other=0.0).to(tl.float32)
        v_h = v_gx * factor + v_factor * tl.load(x + at, inside, other=0.0).to(tl.float32)
        if y is not None:
            derivative = _slope(tl.load(y + at, inside, other=0.0).to(tl.float32), slope, gain, limit)
            h *= derivative
            v_h *= derivative
        tl.store(gg + at, v_h.to(gg.dtype.element_ty), inside)
        tl.store(gx + at, (h * v_factor).to(gx.dtype.element_ty), inside)
        total += v_gx * h
    at = (tl.program_id(0) * tl.num_programs(2) + n) * C + c
    tl.store(sums + at, tl.sum(total, 0), c < C)


def _scale_act_grad2_reference(
    v: Tensor, v_scale: Tensor, g: Tensor, x: Tensor, y: Tensor | None, scale: Tensor, act: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the same with S = 1."""
    h = _before_act(g, y, act).to(_sum_dtype(x))
    v_factor = v_scale[:, :, None, None]
    gg = _before_act(v * scale[:, :, None, None] + v_factor * x, y, act)
    return gg.to(x.dtype), (h * v_factor).to(x.dtype), (v * h).sum([2, 3])[None]


def _scale_act_grad2_fake(v: Tensor, v_scale: Tensor, g: Tensor, x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    shape = [Tiling.of(x, sums=True).grid[0], *x.shape[:2]]
    return torch.empty_like(x), torch.empty_like(x), x.new_empty(shape, dtype=_sum_dtype(x))


@kernels.operation(reference=_scale_act_grad2_reference, fake=_scale_act_grad2_fake)
def _scale_act_grad2(
    v: Tensor, v_scale: Tensor, g: Tensor, x: Tensor, y: Tensor | None, scale: Tensor, act: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the derivatives of v * gx + v_scale * (sum of h * x) for g and x, and partial sums [S, N, C] for scale."""
    gg, gx, sums = _scale_act_grad2_fake(v, v_scale, g, x)
    if x.numel() == 0:
        return gg, gx, sums.zero_()
    tiling = Tiling.of(x, sums=True)
    kernels.compiled(_scale_act_grad2_kernel)[tiling.grid](
        *(v, v_scale, g, x, y, scale, gg, gx, sums, *tiling.layout, tiling.tiles, *act),
        **tiling.block,
        num_warps=8,
    )
    return gg, gx, sums


# --- autograd ---


def _apply(
    x: Tensor,
    scale: Tensor,
    noise: Tensor | None,
    strength: Tensor | None,
    bias: Tensor | None,
    act: _Act,
    kernel: bool,
) -> Tensor:
    """Compute act(x * scale + strength * noise + bias), or x * scale if there is no bias."""
    args = dense(x, like=x), scale.contiguous(), None if noise is None else noise.contiguous(), strength, bias, act
    if torch.is_grad_enabled():
        return _ScaleAct.apply(*args, kernel)
    return _scale_act(*args, kernel=kernel)


class _ScaleAct(torch.autograd.Function):
    """Computes `_apply` of tensors without gaps."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        noise: Tensor | None,
        strength: Tensor | None,
        bias: Tensor | None,
        act: _Act,
        kernel: bool,
    ) -> Tensor:
        y = _scale_act(x, scale, noise, strength, bias, act, kernel=kernel)
        ctx.save_for_backward(x, None if bias is None else y, scale, noise)
        ctx.act, ctx.kernel = act, kernel
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        settings = ctx.act, *ctx.needs_input_grad[3:5], ctx.kernel
        g = dense(g, like=ctx.saved_tensors[0])
        gx, gscale, gstrength, gbias = _ScaleActGrad.apply(g, *ctx.saved_tensors, *settings)
        return gx, gscale, None, gstrength, gbias, None, None


class _ScaleActGrad(torch.autograd.Function):
    """Computes the gradients of `_ScaleAct` for x, scale, strength and bias."""

    @staticmethod
    def forward(
        ctx: Any,
        g: Tensor,
        x: Tensor,
        y: Tensor | None,
        scale: Tensor,
        noise: Tensor | None,
        act: _Act,
        needs_strength: bool,
        needs_bias: bool,
        kernel: bool,
    ) -> tuple[Tensor | None, ...]:
        gx, sums = _scale_act_grad(g, x, y, scale, noise, act, kernel=kernel)
        ctx.save_for_backward(g, x, y, scale, noise)
        ctx.act, ctx.kernel = act, kernel
        ctx.set_materialize_grads(False)
        return gx, *_total(sums, needs_strength, needs_bias)

    @staticmethod
    def backward(
        ctx: Any, v: Tensor | None, v_scale: Tensor | None, v_strength: Tensor | None, v_bias: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        g, x, y, scale, noise = ctx.saved_tensors
        if v is None or v_scale is None or v_strength is not None or v_bias is not None or torch.is_grad_enabled():
            # Rare: one of the gradients was used alone, or a third derivative is wanted.
            def gradients(g: Tensor, x: Tensor, scale: Tensor) -> tuple[Tensor | None, ...]:
                gx, sums = _scale_act_grad_reference(g, x, y, scale, noise, ctx.act)
                return gx, *_total(sums, v_strength is not None, v_bias is not None)

            gg, gx, gscale = _derivative(gradients, (g, x, scale), (v, v_scale, v_strength, v_bias))
        else:
            v, v_scale = dense(v, like=x), v_scale.contiguous()
            gg, gx, sums = _scale_act_grad2(v, v_scale, g, x, y, scale, ctx.act, kernel=ctx.kernel)
            gscale = _sum_splits(sums)
        return gg, gx, None, gscale, *[None] * 5


def _total(sums: Tensor, needs_strength: bool, needs_bias: bool) -> tuple[Tensor | None, ...]:
    """Return the gradients of scale, strength and bias from partial sums [S, K, N, C]."""
    strength = sums[:, 2].sum() if needs_strength else None
    return _sum_splits(sums[:, 0]), strength, sums[:, 1].sum([0, 1]) if needs_bias else None


def _sum_splits(sums: Tensor) -> Tensor:
    return sums[0] if sums.shape[0] == 1 else sums.sum(0)


def _derivative(
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
