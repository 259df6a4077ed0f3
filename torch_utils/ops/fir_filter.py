"""The operation behind `upfirdn2d`: insert zeros, pad, filter and decimate, with a 2D filter.

It is linear in the images, and its adjoint is the same operation with up and down swapped and the filter flipped:
derivatives of any order are more calls. On GPUs a call is one Triton kernel, on CPUs a depthwise convolution.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, no_type_check

import torch
from torch import Tensor
from torch.nn import functional

from torch_utils.ops import kernels
from torch_utils.ops.tiles import ceil_power_of_2

tl: Any = None  # bound by kernels.compiled

Pair = Sequence[int]
"""(x, y)"""

Pads = Sequence[int]
"""(x0, x1, y0, y1)"""


def fir_filter(x: Tensor, f: Tensor, up: Pair, down: Pair, pads: Pads, flip: bool, gain: float, impl: str) -> Tensor:
    """Filter images; differentiable in ``x`` to any order.

    Args:
        x: Images ``[N, C, H, W]``.
        f: Filter ``[fh, fw]`` on the same device. If it requires a gradient, the definition is what runs.
        up: Upsampling factors.
        down: Downsampling factors.
        pads: Zeros around the upsampled image; negative values crop.
        flip: False convolves, True correlates.
        gain: Factor of the result.
        impl: One of `kernels.IMPLS`; 'ref' computes the definition step by step.

    Returns:
        Images with the dtype and memory format of ``x``.

    Raises:
        ValueError: The filter does not fit into the padded image.
    """
    padded = [x.shape[2] * up[1] + pads[2] + pads[3], x.shape[3] * up[0] + pads[0] + pads[1]]
    if padded[0] < f.shape[0] or padded[1] < f.shape[1]:
        raise ValueError(f"upfirdn2d: the filter {list(f.shape)} is larger than the padded image {padded}; pad more")
    if impl == "ref" or f.requires_grad:
        return _definition(x, f, up, down, pads, flip, gain)
    kernel = kernels.are_wanted(impl, x)
    # Exporters and compilers trace the convolution; an autograd Function would only be in their way.
    if torch.is_grad_enabled() and x.requires_grad and (kernel or not _is_traced()):
        result: Tensor = _FirFilter.apply(x, f, up, down, pads, flip, gain, impl)
        return result
    return _upfirdn2d(x, f, up, down, pads, flip, gain, kernel=kernel)


class _FirFilter(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, f: Tensor, up: Pair, down: Pair, pads: Pads, flip: bool, gain: float, impl: str
    ) -> Tensor:
        ctx.save_for_backward(f)
        ctx.input_hw = x.shape[2:]
        ctx.args = up, down, pads, flip, gain, impl
        return fir_filter(x, f, up, down, pads, flip, gain, impl)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (f,) = ctx.saved_tensors
        up, down, (x0, _x1, y0, _y1), flip, gain, impl = ctx.args
        (height, width), (fh, fw) = ctx.input_hw, f.shape
        pads = (
            fw - 1 - x0,
            width * up[0] - grad.shape[3] * down[0] + x0 - up[0] + 1,
            fh - 1 - y0,
            height * up[1] - grad.shape[2] * down[1] + y0 - up[1] + 1,
        )
        grad_x = fir_filter(grad, f, down, up, pads, not flip, gain, impl)
        return grad_x, None, None, None, None, None, None, None


MAX_BAND_TAPS = 16
"""Taps per output that a program holds in registers; larger filters are applied in bands of their rows."""

BYTES_PER_THREAD = 16
"""Width of the widest memory access."""

NUM_THREADS = 128
"""Triton's default of four warps per program."""


@no_type_check
def _upfirdn2d_kernel(
    x, f, y, gain, N, C, H, W, OH, OW, xn, xc, xy, xx, yn, yc, yy, yx, f0, fy, fx, first_y, first_x, lead_y, lead_x,
    UP_Y: tl.constexpr, UP_X: tl.constexpr, DOWN_Y: tl.constexpr, DOWN_X: tl.constexpr,
    FH: tl.constexpr, FW: tl.constexpr, BANDS: tl.constexpr, TAPS_Y: tl.constexpr, TAPS_X: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Compute BP patches of BC channels of y.

    A patch is ROWS x COLS pixels, UP_Y and UP_X pixels apart: weighted sums of pixels of x with the same taps, every
    UP-th of the filter. A thread computes whole patches, so that a pixel it has loaded serves several sums.
    """
    PIXELS_X: tl.constexpr = (COLS - 1) * DOWN_X + TAPS_X
    dtype: tl.constexpr = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    program = tl.program_id(0)
    phase_x = program % UP_X
    phase_y = program // UP_X % UP_Y
    program = program // (UP_X * UP_Y)
    num_c = tl.cdiv(C, BC)
    num_x = tl.cdiv(OW, UP_X * COLS)
    num_y = tl.cdiv(OH, UP_Y * ROWS)
    c = (program % num_c * BC + tl.arange(0, BC))[None, :].to(tl.int64)
    patch = (program // num_c * BP + tl.arange(0, BP))[:, None]
    col = patch % num_x * COLS
    row = patch // num_x % num_y * ROWS
    n = (patch // (num_x * num_y)).to(tl.int64)
    exists = (n < N) & (c < C)

    # The first pixel of x, and the tap that meets it. No operand of // and % is negative: GPUs truncate, Python floors.
    reach_y = phase_y * DOWN_Y - lead_y + UP_Y - 1
    reach_x = phase_x * DOWN_X - lead_x + UP_X - 1
    iy = first_y + reach_y // UP_Y + row * DOWN_Y
    ix = first_x + reach_x // UP_X + col * DOWN_X
    ky = UP_Y - 1 - reach_y % UP_Y
    kx = UP_X - 1 - reach_x % UP_X

    sums = ()
    for _ in tl.static_range(ROWS * COLS):
        sums = sums + (tl.zeros([BP, BC], dtype),)
    taps_x, is_tap_x = (), ()
    for i in tl.static_range(TAPS_X):
        taps_x = taps_x + ((kx + i * UP_X) * fx,)
        is_tap_x = is_tap_x + (kx + i * UP_X < FW,)
    pixels_x, is_pixel_x = (), ()
    for i in tl.static_range(PIXELS_X):
        pixels_x = pixels_x + (i * xx,)
        is_pixel_x = is_pixel_x + (exists & (ix >= -i) & (ix < W - i),)

    source = x + (n * xn + iy.to(tl.int64) * xy + (ix * xx + c * xc))
    for _ in range(BANDS):
        taps = ()
        for j in tl.static_range(TAPS_Y):
            taps_row = f + (f0 + (ky + j * UP_Y) * fy)
            is_row = ky + j * UP_Y < FH
            for i in tl.static_range(TAPS_X):
                taps = taps + (tl.load(taps_row + taps_x[i], is_row & is_tap_x[i], other=0.0).to(dtype) * gain,)
        for j in tl.static_range((ROWS - 1) * DOWN_Y + TAPS_Y):
            pixels_row = source + j * xy
            is_row = (iy >= -j) & (iy < H - j)
            pixels = ()
            for i in tl.static_range(PIXELS_X):
                pixels = pixels + (tl.load(pixels_row + pixels_x[i], is_row & is_pixel_x[i], other=0.0).to(dtype),)
            new_sums = ()
            for s in tl.static_range(ROWS * COLS):
                total = sums[s]
                if s // COLS * DOWN_Y <= j and j < s // COLS * DOWN_Y + TAPS_Y:
                    for i in tl.static_range(TAPS_X):
                        total += taps[(j - s // COLS * DOWN_Y) * TAPS_X + i] * pixels[s % COLS * DOWN_X + i]
                new_sums = new_sums + (total,)
            sums = new_sums
        ky += TAPS_Y * UP_Y
        iy += TAPS_Y
        source += TAPS_Y * xy

    for s in tl.static_range(ROWS * COLS):
        oy = phase_y + (row + s // COLS) * UP_Y
        ox = phase_x + (col + s % COLS) * UP_X
        target = y + (n * yn + oy.to(tl.int64) * yy + (ox * yx + c * yc))
        tl.store(target, sums[s].to(y.dtype.element_ty), exists & (oy < OH) & (ox < OW))


def _empty_result(x: Tensor, f: Tensor, up: Pair, down: Pair, pads: Pads, *_: Any) -> Tensor:
    height = (x.shape[2] * up[1] + pads[2] + pads[3] - f.shape[0]) // down[1] + 1
    width = (x.shape[3] * up[0] + pads[0] + pads[1] - f.shape[1]) // down[0] + 1
    return _empty_like(x, height, width)


def _convolve(x: Tensor, f: Tensor, up: Pair, down: Pair, pads: Pads, flip: bool, gain: float) -> Tensor:
    """Do as `_upfirdn2d` by a depthwise convolution."""
    if x.device.type == "cpu" and max(up) > 1:
        # Half the time of filtering inserted zeros; on GPUs transposed depthwise convolutions are what is slow.
        return _convolve_transposed(x, f, up, down, pads, flip, gain)
    x, inner_pads = _insert_zeros(x, up), (pads[2], pads[0])
    if pads[0] != pads[1] or pads[2] != pads[3] or min(pads) < 0:
        x, inner_pads = pad_or_crop(x, pads), (0, 0)
    weight = _depthwise_weight(x, f, flip, gain)
    return functional.conv2d(x, weight, stride=(down[1], down[0]), padding=inner_pads, groups=x.shape[1])


@kernels.operation(reference=_convolve, fake=_empty_result)
def _upfirdn2d(x: Tensor, f: Tensor, up: Pair, down: Pair, pads: Pads, flip: bool, gain: float) -> Tensor:
    y = _empty_result(x, f, up, down, pads)
    if y.numel() == 0:
        return y
    fh, fw = f.shape
    fy, fx = f.stride()
    f0 = 0
    if not flip:
        f0, fy, fx = (fh - 1) * fy + (fw - 1) * fx, -fy, -fx
    grid, tile = _tiling(y, f, up)
    kernels.compiled(_upfirdn2d_kernel)[grid](
        *(x, f, y, gain, *x.shape, *y.shape[2:], *x.stride(), *y.stride(), f0, fy, fx),
        # Padding before the image: whole pixels of x, and the rest in inserted zeros.
        *(-(pads[2] // up[1]), -(pads[0] // up[0]), pads[2] % up[1], pads[0] % up[0]),
        *(up[1], up[0], down[1], down[0], fh, fw),
        **tile,
    )
    return y


def _tiling(y: Tensor, f: Tensor, up: Pair) -> tuple[tuple[int], dict[str, int]]:
    """Divide ``y`` among programs: their number, and how much of it with how many taps at a time each computes."""
    num, channels, height, width = y.shape
    taps_y, taps_x = _cdiv(f.shape[0], up[1]), _cdiv(f.shape[1], up[0])
    bands = _cdiv(taps_y, max(MAX_BAND_TAPS // taps_x, 1))
    rows = 4 if bands == 1 else 2
    if _is_channels_last(y):
        cols, bc, size = 2, min(ceil_power_of_2(channels), 64), NUM_THREADS * BYTES_PER_THREAD // y.element_size()
    else:
        cols, bc, size = 1, 1, NUM_THREADS * 4  # pixels of a row are not aligned: more of them, but no wider access
    num_patches = num * _cdiv(height, up[1] * rows) * _cdiv(width, up[0] * cols)
    bp = min(ceil_power_of_2(num_patches), size // bc)
    bc = min(ceil_power_of_2(channels), size // bp)
    grid = (up[0] * up[1] * _cdiv(channels, bc) * _cdiv(num_patches, bp),)
    taps = {"BANDS": bands, "TAPS_Y": _cdiv(taps_y, bands), "TAPS_X": taps_x}
    return grid, {**taps, "ROWS": rows, "COLS": cols, "BP": bp, "BC": bc}


def _cdiv(number: int, divisor: int) -> int:
    return -(-number // divisor)


def _definition(x: Tensor, f: Tensor, up: Pair, down: Pair, pads: Pads, flip: bool, gain: float) -> Tensor:
    """Compute the definition step by step; differentiable in ``f`` too."""
    padded = pad_or_crop(_insert_zeros(x, up), pads)
    windows = padded.unfold(2, f.shape[0], 1).unfold(3, f.shape[1], 1)  # [N, C, H, W, fh, fw]
    return (windows * _correlation_taps(f, flip, gain, x.dtype)).sum([4, 5])[:, :, :: down[1], :: down[0]]


def _convolve_transposed(x: Tensor, f: Tensor, up: Pair, down: Pair, pads: Pads, flip: bool, gain: float) -> Tensor:
    """Do as `_upfirdn2d` by a transposed depthwise convolution.

    It yields every overlap of filter and image; the part that the padding asks for is cut out.
    """
    (fh, fw), (up_x, up_y), (x0, x1, y0, y1) = f.shape, up, pads
    cut_y, extra_y = _transposed_crop(fh, up_y, y0, y1)
    cut_x, extra_x = _transposed_crop(fw, up_x, x0, x1)
    padding, output_padding = (max(cut_y, 0), max(cut_x, 0)), (0, 0)
    if 0 <= extra_y < up_y and 0 <= extra_x < up_x and cut_y >= 0 and cut_x >= 0:
        output_padding, rest = (extra_y, extra_x), None
    else:
        padding, rest = (0, 0), [-cut_x, extra_x - cut_x, -cut_y, extra_y - cut_y]
    weight = _depthwise_weight(x, f, not flip, gain)
    x = functional.conv_transpose2d(
        x, weight, stride=(up_y, up_x), padding=padding, output_padding=output_padding, groups=x.shape[1]
    )
    if rest is not None:
        x = pad_or_crop(x, rest)
    return x if max(down) == 1 else x[:, :, :: down[1], :: down[0]]


def _transposed_crop(taps: int, up: int, pad0: int, pad1: int) -> tuple[int, int]:
    """Return the pixels to crop at the start of a full transposed convolution, and how many fewer at its end."""
    cut_start = taps - 1 - pad0
    cut_end = taps - up - pad1
    return cut_start, cut_start - cut_end


def _insert_zeros(x: Tensor, up: Pair) -> Tensor:
    if max(up) == 1:
        return x
    stuffed = _empty_like(x, x.shape[2] * up[1], x.shape[3] * up[0]).zero_()
    stuffed[:, :, :: up[1], :: up[0]] = x
    return stuffed


def pad_or_crop(x: Tensor, pads: Pads) -> Tensor:
    """Pad images with zeros by ``pads``; negative ones crop."""
    x = functional.pad(x, [max(pad, 0) for pad in pads])
    x0, x1, y0, y1 = (max(-pad, 0) for pad in pads)
    return x[:, :, y0 : x.shape[2] - y1, x0 : x.shape[3] - x1]


def _empty_like(x: Tensor, height: int, width: int) -> Tensor:
    """Return a tensor with the memory format of ``x`` for images of another size."""
    memory_format = torch.channels_last if _is_channels_last(x) else torch.contiguous_format
    return torch.empty([*x.shape[:2], height, width], dtype=x.dtype, device=x.device, memory_format=memory_format)


def _is_channels_last(x: Tensor) -> bool:
    return not x.is_contiguous() and x.stride(1) < x.stride(3)


def _depthwise_weight(x: Tensor, f: Tensor, flip: bool, gain: float) -> Tensor:
    """Return ``[C, 1, fh, fw]`` for a convolution of ``x``."""
    if type(f) is Tensor and f.device.type == "cpu" and not _is_traced():
        taps = _cached_taps(tuple(f.flatten().tolist()), f.shape, f.dtype, flip, gain, x.dtype)
    else:
        taps = _correlation_taps(f, flip, gain, x.dtype)
    weight = taps.expand(x.shape[1], 1, -1, -1)
    # For a single image, the result takes the memory format of the weight.
    return weight.contiguous(memory_format=torch.channels_last) if _is_channels_last(x) else weight


@functools.lru_cache(maxsize=64)
def _cached_taps(
    values: tuple[float, ...], shape: torch.Size, f_dtype: torch.dtype, flip: bool, gain: float, dtype: torch.dtype
) -> Tensor:
    """Prepare a filter once; its values are the key, as it may be modified in place at any time."""
    with torch.inference_mode(False):
        f = torch.tensor(values, dtype=f_dtype, device="cpu").reshape(shape)
        return _correlation_taps(f, flip, gain, dtype)


def _correlation_taps(f: Tensor, flip: bool, gain: float, dtype: torch.dtype) -> Tensor:
    taps = f if flip else f.flip([0, 1])
    return (taps * gain).to(dtype)


def _is_traced() -> bool:
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
