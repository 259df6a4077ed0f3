"""Demodulation coefficients of a synthesis layer, and weights and styles made ready for them, in few launches.

dcoefs[n, o] = 1 / sqrt(sum over i and taps t of (styles[n, i] * weight[o, i, t])^2 + 1e-8) (StyleGAN2, equation 3 of
arXiv 1912.04958). The sum over taps, the power of the weights, comes first, so that there are no weights per sample.

Letters in shapes: N batch, I, O input and output channels, T = kh kw taps.
"""

from __future__ import annotations

import math
from typing import Any, no_type_check

import torch
from torch import Tensor

from torch_utils.ops import conv2d_gradfix, kernels
from torch_utils.ops.layout import is_channels_last, scale_into

tl: Any = None  # bound by kernels.compiled

EPSILON = 1e-8


def demodulation_coefficients(
    weight: Tensor, styles: Tensor, x: Tensor, transposed: bool = False, impl: str = "auto"
) -> tuple[Tensor, Tensor, Tensor]:
    """Prepare a modulated convolution of ``x``; differentiable to any order.

    For float16, weights and styles are scaled to keep products within its range: the largest weight of an output
    channel becomes 1 / sqrt(I T), the largest style of a sample 1. Demodulation cancels both factors, so that
    derivatives may take them for constants.

    Args:
        weight: ``[O, I, kh, kw]``, float32.
        styles: ``[N, I]``, float32.
        x: Input of the convolution, whose dtype and memory format the weights get.
        transposed: The weights are for a transposed convolution, so that I comes before O in memory.
        impl: One of `kernels.IMPLS`.

    Returns:
        Weights ``[O, I, kh, kw]`` for the convolution, styles ``[N, I]`` for `modulation.modulate`, and ``dcoefs``
        ``[N, O]`` for `modulation.epilogue`, both float32.

    Raises:
        ValueError: Shapes do not fit, or ``impl`` has a wrong value.
    """
    kernels.check_impl("demodulation_coefficients", impl)
    if weight.ndim != 4 or styles.ndim != 2 or weight.shape[1] != styles.shape[1]:
        raise ValueError(
            "demodulation_coefficients: weight must have shape [O, I, kh, kw] and styles [N, I], "
            f"got {list(weight.shape)} and {list(styles.shape)}"
        )
    layout = x.dtype, is_channels_last(x), transposed
    return _Demodulation.apply(weight.contiguous(), styles.contiguous(), layout, kernels.are_wanted(impl, x))[:3]


@no_type_check
def _demodulation_kernel(
    weight, styles, scaled, dcoefs, power, weight_factor, style_factor, num, num_in, gain, epsilon,
    T: tl.constexpr, NORMALIZE: tl.constexpr, BN: tl.constexpr, BI: tl.constexpr,
):  # fmt: skip
    """Compute one output channel for BN samples, BI input channels at a time."""
    o = tl.program_id(0)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    w_factor = 1.0
    s_factor = tl.full([BN], 1.0, tl.float32)
    if NORMALIZE:
        largest_weight = tl.zeros([BI], tl.float32)
        largest_style = tl.zeros([BN, BI], tl.float32)
        for start in range(0, num_in, BI):
            i = start + tl.arange(0, BI)
            for t in tl.static_range(T):
                w = tl.load(weight + (o * num_in + i) * T + t, i < num_in, other=0.0).to(tl.float32)
                largest_weight = tl.maximum(largest_weight, tl.abs(w))
            s = tl.load(styles + n[:, None] * num_in + i, (n < num)[:, None] & (i < num_in), other=0.0).to(tl.float32)
            largest_style = tl.maximum(largest_style, tl.abs(s))
        largest = tl.max(largest_weight, 0)
        w_factor = gain / tl.where(largest > 0, largest, 1.0)
        largest = tl.max(largest_style, 1)
        s_factor = 1.0 / tl.where(largest > 0, largest, 1.0)
    total = tl.zeros([BN, BI], tl.float32)
    for start in range(0, num_in, BI):
        i = start + tl.arange(0, BI)
        squares = tl.zeros([BI], tl.float32)
        for t in tl.static_range(T):
            w = tl.load(weight + (o * num_in + i) * T + t, i < num_in, other=0.0).to(tl.float32) * w_factor
            squares += w * w
        inside = (n < num)[:, None] & (i < num_in)
        s = tl.load(styles + n[:, None] * num_in + i, inside, other=0.0).to(tl.float32) * s_factor[:, None]
        total += s * s * squares
        tl.store(power + o * num_in + i, squares, i < num_in)
        tl.store(scaled + n[:, None] * num_in + i, s, inside & (o == 0))
    tl.store(dcoefs + n * tl.num_programs(0) + o, tl.rsqrt(tl.sum(total, 1) + epsilon), n < num)
    tl.store(weight_factor + o, w_factor)
    tl.store(style_factor + n, s_factor, (n < num) & (o == 0))


def _demodulation_reference(
    weight: Tensor, styles: Tensor, normalize: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute the definition."""
    weight_factor, style_factor = torch.ones_like(weight[:, 0, 0, 0]), torch.ones_like(styles[:, 0])
    if normalize:
        weight_factor = 1 / (_or_1(weight.abs().amax([1, 2, 3])) * math.sqrt(weight[0].numel()))
        style_factor = 1 / _or_1(styles.abs().amax(1))
    scaled = styles * style_factor[:, None]
    power = weight.square().sum([2, 3]) * weight_factor.square()[:, None]
    dcoefs = (scaled.square() @ power.t() + EPSILON).rsqrt()
    return scaled, dcoefs, power, weight_factor, style_factor


def _or_1(x: Tensor) -> Tensor:
    return x.where(x > 0, 1)


def _demodulation_fake(weight: Tensor, styles: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    (num_out, num_in), num = weight.shape[:2], styles.shape[0]
    shapes = [num, num_in], [num, num_out], [num_out, num_in], [num_out], [num]
    scaled, dcoefs, power, weight_factor, style_factor = (styles.new_empty(shape) for shape in shapes)
    return scaled, dcoefs, power, weight_factor, style_factor


@kernels.operation(reference=_demodulation_reference, fake=_demodulation_fake)
def _demodulation(weight: Tensor, styles: Tensor, normalize: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return scaled styles [N, I], dcoefs [N, O], the power of scaled weights [O, I], factors of weights and styles."""
    results = _demodulation_fake(weight, styles)
    num_out, num_in, *taps = weight.shape
    num = styles.shape[0]
    kernels.compiled(_demodulation_kernel)[(num_out, max(-(-num // 16), 1))](
        *(weight, styles, *results, num, num_in, 1 / math.sqrt(weight[0].numel()), EPSILON),
        T=math.prod(taps),
        NORMALIZE=normalize,
        BN=16,
        BI=128,
    )
    return results


@no_type_check
def _weight_grad_kernel(
    g_weight, g_dcoefs, g_power, weight, weight_factor, scaled, dcoefs, result, num, num_out, num_in, go, gi, gt,
    T: tl.constexpr, BN: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr,
):  # fmt: skip
    """Compute BO output and BI input channels."""
    o = tl.program_id(0) * BO + tl.arange(0, BO)
    i = tl.program_id(1) * BI + tl.arange(0, BI)
    inside = (o < num_out)[:, None] & (i < num_in)
    power = tl.zeros([BO, BI], tl.float32)
    for start in range(0, num, BN):
        n = start + tl.arange(0, BN)
        at = n[:, None] * num_out + o
        d = tl.load(dcoefs + at, (n < num)[:, None] & (o < num_out), other=0.0)
        g = tl.load(g_dcoefs + at, (n < num)[:, None] & (o < num_out), other=0.0)
        s = tl.load(scaled + n[:, None] * num_in + i, (n < num)[:, None] & (i < num_in), other=0.0)
        power += tl.dot(tl.trans(-0.5 * d * d * d * g), s * s, input_precision="ieee")
    if g_power is not None:
        power += tl.load(g_power + o[:, None] * num_in + i, inside, other=0.0)
    factor = tl.load(weight_factor + o, o < num_out, other=0.0)[:, None]
    for t in tl.static_range(T):
        at = (o[:, None] * num_in + i) * T + t
        g = 2.0 * factor * power * tl.load(weight + at, inside, other=0.0).to(tl.float32)
        if g_weight is not None:
            g += tl.load(g_weight + o[:, None] * go + i * gi + t * gt, inside, other=0.0).to(tl.float32)
        tl.store(result + at, factor * g, inside)


def _weight_grad_reference(
    g_weight: Tensor | None,
    g_dcoefs: Tensor,
    g_power: Tensor | None,
    weight: Tensor,
    weight_factor: Tensor,
    scaled: Tensor,
    dcoefs: Tensor,
) -> Tensor:
    power = (-0.5 * dcoefs**3 * g_dcoefs).t() @ scaled.square()
    if g_power is not None:
        power = power + g_power
    factor = weight_factor[:, None, None, None]
    g = 2 * factor * power[:, :, None, None] * weight
    return factor * (g if g_weight is None else g + g_weight.view_as(g))


@kernels.operation(reference=_weight_grad_reference, fake=lambda g, g_d, g_p, weight, *_: torch.empty_like(weight))
def _weight_grad(
    g_weight: Tensor | None,
    g_dcoefs: Tensor,
    g_power: Tensor | None,
    weight: Tensor,
    weight_factor: Tensor,
    scaled: Tensor,
    dcoefs: Tensor,
) -> Tensor:
    """Return the gradient of the weights from those of the scaled weights, dcoefs and power."""
    result = torch.empty_like(weight)
    num_out, num_in, *taps = weight.shape
    strides = (0, 0, 0) if g_weight is None else g_weight.stride()
    given = g_weight, g_dcoefs, g_power, weight, weight_factor, scaled, dcoefs
    kernels.compiled(_weight_grad_kernel)[(-(-num_out // 16), -(-num_in // 64))](
        *(*given, result, scaled.shape[0], num_out, num_in, *strides),
        T=math.prod(taps),
        BN=16,
        BO=16,
        BI=64,
    )
    return result


@no_type_check
def _styles_grad_kernel(
    g_scaled, g_dcoefs, style_factor, scaled, dcoefs, power, result, num, num_out, num_in,
    BN: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr,
):  # fmt: skip
    """Compute BI input channels of BN samples."""
    i = tl.program_id(0) * BI + tl.arange(0, BI)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    total = tl.zeros([BN, BI], tl.float32)
    for start in range(0, num_out, BO):
        o = start + tl.arange(0, BO)
        at = n[:, None] * num_out + o
        d = tl.load(dcoefs + at, (n < num)[:, None] & (o < num_out), other=0.0)
        g = tl.load(g_dcoefs + at, (n < num)[:, None] & (o < num_out), other=0.0)
        p = tl.load(power + o[:, None] * num_in + i, (o < num_out)[:, None] & (i < num_in), other=0.0)
        total += tl.dot(-d * d * d * g, p, input_precision="ieee")
    inside = (n < num)[:, None] & (i < num_in)
    g = total * tl.load(scaled + n[:, None] * num_in + i, inside, other=0.0)
    if g_scaled is not None:
        g += tl.load(g_scaled + n[:, None] * num_in + i, inside, other=0.0)
    tl.store(result + n[:, None] * num_in + i, g * tl.load(style_factor + n, n < num, other=0.0)[:, None], inside)


def _styles_grad_reference(
    g_scaled: Tensor | None, g_dcoefs: Tensor, style_factor: Tensor, scaled: Tensor, dcoefs: Tensor, power: Tensor
) -> Tensor:
    g = scaled * ((-(dcoefs**3) * g_dcoefs) @ power)
    return style_factor[:, None] * (g if g_scaled is None else g + g_scaled)


@kernels.operation(reference=_styles_grad_reference, fake=lambda g, g_d, s, scaled, *_: torch.empty_like(scaled))
def _styles_grad(
    g_scaled: Tensor | None, g_dcoefs: Tensor, style_factor: Tensor, scaled: Tensor, dcoefs: Tensor, power: Tensor
) -> Tensor:
    """Return the gradient of the styles from those of the scaled styles and dcoefs."""
    result = torch.empty_like(scaled)
    (num, num_in), num_out = scaled.shape, power.shape[0]
    if num > 0:
        kernels.compiled(_styles_grad_kernel)[(-(-num_in // 32), -(-num // 16))](
            *(g_scaled, g_dcoefs, style_factor, scaled, dcoefs, power, result, num, num_out, num_in),
            BN=16,
            BO=64,
            BI=32,
        )
    return result


class _Demodulation(torch.autograd.Function):
    """Computes scaled weights, scaled styles, coefficients, and the power of the scaled weights.

    Its derivative is made of its results, whose gradients lead back to it: that is the second derivative.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, styles: Tensor, layout: tuple[torch.dtype, bool, bool], kernel: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        results = _demodulation(weight, styles, layout[0] == torch.float16, kernel=kernel)
        scaled, dcoefs, power, weight_factor, _style_factor = results
        ctx.save_for_backward(weight, *results)
        ctx.kernel = kernel
        ctx.set_materialize_grads(False)
        if layout != (weight.dtype, False, False):
            weight = scale_into(weight, weight_factor[:, None, None, None], *layout)
        return weight, scaled, dcoefs, power

    @staticmethod
    def backward(
        ctx: Any, g_weight: Tensor | None, g_scaled: Tensor | None, g_dcoefs: Tensor | None, g_power: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        weight, scaled, dcoefs, power, weight_factor, style_factor = ctx.saved_tensors
        g_weight = g_weight if g_weight is None else g_weight.flatten(2)
        g_dcoefs = torch.zeros_like(dcoefs) if g_dcoefs is None else g_dcoefs.contiguous()
        g_scaled = g_scaled if g_scaled is None else g_scaled.contiguous()
        kernel = ctx.kernel and not torch.is_grad_enabled()  # what shall be differentiated again is made of PyTorch
        g_styles = _styles_grad(g_scaled, g_dcoefs, style_factor, scaled, dcoefs, power, kernel=kernel)
        if not ctx.needs_input_grad[0] or conv2d_gradfix._weight_gradients_disabled:
            return None, g_styles, None, None
        given = g_weight, g_dcoefs, g_power, weight, weight_factor, scaled, dcoefs
        return _weight_grad(*given, kernel=kernel), g_styles, None, None
