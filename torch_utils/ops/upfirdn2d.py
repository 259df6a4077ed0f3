"""Upsample, filter and downsample images in one operation (StyleGAN2, arXiv 1912.04958, appendix B).

The definition, per channel: insert zeros between pixels, pad, convolve with a small filter, keep every n-th pixel. Here
arguments are checked and separable filters split; `fir_filter` computes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from torch_utils.ops import kernels
from torch_utils.ops.fir_filter import fir_filter

IMPLS = kernels.IMPLS

SEPARABLE_MIN_TAPS = 8
"""1D filters with at least this many taps stay separable, shorter ones become 2D (docs/compatibility.md)."""

IntPair = int | Sequence[int]


def setup_filter(
    f: float | Sequence[float] | Sequence[Sequence[float]] | np.ndarray | torch.Tensor | None,
    device: torch.device | str = "cpu",
    normalize: bool = True,
    flip_filter: bool = False,
    gain: float = 1,
    separable: bool | None = None,
) -> torch.Tensor:
    """Prepare a filter for the functions of this module.

    Args:
        f: Taps: 2D ``[fh, fw]``, 1D ``[taps]``, one number, or None for the identity.
        device: Where the filter shall live.
        normalize: Scale the taps to sum 1.
        flip_filter: Reverse the taps.
        gain: Scale of the filtered signal; a separable filter carries its square root, as it is applied twice.
        separable: Keep a 1D filter 1D (True) or expand it to its outer product (False); None decides by the number of
            taps.

    Returns:
        float32 tensor ``[fh, fw]`` or, separable, ``[taps]``.

    Raises:
        ValueError: ``f`` has more than two dimensions or no taps, is 2D although ``separable`` is True, or cannot be
            normalized as its taps sum to 0.
    """
    taps = torch.as_tensor(1.0 if f is None else f, dtype=torch.float32, device=device)
    if taps.ndim > 2 or taps.numel() == 0:
        raise ValueError(
            f"setup_filter: f must be a number, 1D or 2D with at least one tap, got shape {list(taps.shape)}"
        )
    if taps.ndim == 0:
        taps = taps[None]
    if separable is None:
        separable = taps.ndim == 1 and taps.numel() >= SEPARABLE_MIN_TAPS
    if separable and taps.ndim == 2:
        raise ValueError("setup_filter: separable=True needs a 1D filter, got a 2D one")
    if taps.ndim == 1 and not separable:
        taps = torch.outer(taps, taps)
    if normalize and taps.sum() == 0:
        raise ValueError("setup_filter: the taps of f sum to 0 and cannot be normalized; use normalize=False")
    if normalize:
        taps = taps / taps.sum()
    if flip_filter:
        taps = taps.flip(list(range(taps.ndim)))
    return taps * gain ** (taps.ndim / 2)


def upfirdn2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    up: IntPair = 1,
    down: IntPair = 1,
    padding: IntPair = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = "auto",
) -> torch.Tensor:
    """Pad, upsample, filter and downsample a batch of images; differentiable to any order.

    Args:
        x: Images ``[N, C, H, W]``, any floating dtype and memory format, at least one channel.
        f: Filter from `setup_filter`, ``[fh, fw]`` or separable ``[taps]``, on the device of ``x``; None is the
            identity. One that requires a gradient is applied as impl 'ref' does.
        up: Upsampling factor, an int or ``[x, y]``; zeros follow each pixel, the last one too.
        down: Downsampling factor, an int or ``[x, y]``.
        padding: Zeros around the upsampled image: an int, ``[x, y]`` or ``[x0, x1, y0, y1]``; negative values crop.
        flip_filter: False convolves, True correlates.
        gain: Factor of the result.
        impl: One of `kernels.IMPLS`; 'ref' computes the definition step by step.

    Returns:
        Images ``[N, C, (H * up + pads - fh) // down + 1, ...]`` with the dtype and memory format of ``x``.

    Raises:
        ValueError: An argument has a wrong shape, dtype or value, or the filter does not fit into the padded image.
    """
    kernels.check_impl("upfirdn2d", impl)
    if x.ndim != 4 or x.shape[1] == 0 or not x.is_floating_point():
        raise ValueError(f"upfirdn2d: x must be floating point [N, C, H, W], C > 0, got {x.dtype} {list(x.shape)}")
    taps = x.new_ones([1, 1]) if f is None else _checked_filter(f)
    if taps.device != x.device:
        raise ValueError(f"upfirdn2d: f must be on the device of x, {x.device}, got {taps.device}")
    up_x, up_y = _parse_factor("up", up)
    down_x, down_y = _parse_factor("down", down)
    x0, x1, y0, y1 = parse_padding(padding)
    if taps.ndim == 2:
        return fir_filter(x, taps, (up_x, up_y), (down_x, down_y), (x0, x1, y0, y1), flip_filter, float(gain), impl)
    x = fir_filter(x, taps[None, :], (up_x, 1), (down_x, 1), (x0, x1, 0, 0), flip_filter, gain**0.5, impl)
    return fir_filter(x, taps[:, None], (1, up_y), (1, down_y), (0, 0, y0, y1), flip_filter, gain**0.5, impl)


def filter2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    padding: IntPair = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = "auto",
) -> torch.Tensor:
    """Filter images ``[N, C, H, W]`` and keep their size, plus ``padding``; arguments as in `upfirdn2d`."""
    fw, fh = filter_size(f)
    x0, x1, y0, y1 = parse_padding(padding)
    pads = [x0 + fw // 2, x1 + (fw - 1) // 2, y0 + fh // 2, y1 + (fh - 1) // 2]
    return upfirdn2d(x, f, padding=pads, flip_filter=flip_filter, gain=gain, impl=impl)


def upsample2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    up: IntPair = 2,
    padding: IntPair = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = "auto",
) -> torch.Tensor:
    """Upsample images ``[N, C, H, W]`` to ``[N, C, H * up, W * up]``, plus ``padding``; the mean stays as it is."""
    up_x, up_y = _parse_factor("up", up)
    pads = pads_for_upsampling(f, (up_x, up_y), parse_padding(padding))
    return upfirdn2d(x, f, up=(up_x, up_y), padding=pads, flip_filter=flip_filter, gain=gain * up_x * up_y, impl=impl)


def downsample2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    down: IntPair = 2,
    padding: IntPair = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = "auto",
) -> torch.Tensor:
    """Downsample images ``[N, C, H, W]`` to ``[N, C, H / down, W / down]``; ``padding`` counts input pixels."""
    down_x, down_y = _parse_factor("down", down)
    pads = pads_for_downsampling(f, (down_x, down_y), parse_padding(padding))
    return upfirdn2d(x, f, down=(down_x, down_y), padding=pads, flip_filter=flip_filter, gain=gain, impl=impl)


def pads_for_upsampling(f: torch.Tensor | None, up: tuple[int, int], padding: Sequence[int]) -> list[int]:
    """Return ``padding`` [x0, x1, y0, y1] plus the padding that centers the filter on the upsampled image."""
    (fw, fh), (up_x, up_y), (x0, x1, y0, y1) = filter_size(f), up, padding
    return [x0 + (fw + up_x - 1) // 2, x1 + (fw - up_x) // 2, y0 + (fh + up_y - 1) // 2, y1 + (fh - up_y) // 2]


def pads_for_downsampling(f: torch.Tensor | None, down: tuple[int, int], padding: Sequence[int]) -> list[int]:
    """Return ``padding`` [x0, x1, y0, y1] plus the padding that centers the filter before downsampling."""
    (fw, fh), (down_x, down_y), (x0, x1, y0, y1) = filter_size(f), down, padding
    return [
        x0 + (fw - down_x + 1) // 2,
        x1 + (fw - down_x) // 2,
        y0 + (fh - down_y + 1) // 2,
        y1 + (fh - down_y) // 2,
    ]


def _parse_factor(name: str, factor: IntPair) -> tuple[int, int]:
    values = factor if isinstance(factor, Sequence) else [factor] * 2
    if len(values) != 2 or any(value < 1 or value % 1 for value in values):
        raise ValueError(f"upfirdn2d: {name} must be a positive int or [x, y], got {factor}")
    return int(values[0]), int(values[1])


def parse_padding(padding: IntPair) -> tuple[int, int, int, int]:
    """Return ``padding`` as (x0, x1, y0, y1)."""
    values = padding if isinstance(padding, Sequence) else [padding] * 4
    if len(values) == 2:
        values = [values[0], values[0], values[1], values[1]]
    if len(values) != 4 or any(value % 1 for value in values):
        raise ValueError(f"upfirdn2d: padding must be an int, [x, y] or [x0, x1, y0, y1], got {padding}")
    x0, x1, y0, y1 = values
    return int(x0), int(x1), int(y0), int(y1)


def filter_size(f: torch.Tensor | None) -> tuple[int, int]:
    """Return (width, height) of a filter; a separable one has the same taps along both axes."""
    return (1, 1) if f is None else (_checked_filter(f).shape[-1], f.shape[0])


def _checked_filter(f: torch.Tensor) -> torch.Tensor:
    if not isinstance(f, torch.Tensor):
        raise ValueError(f"upfirdn2d: f must be a tensor made by setup_filter, or None, got {type(f).__name__}")
    if f.ndim not in (1, 2) or f.numel() == 0 or not f.is_floating_point():
        raise ValueError(f"upfirdn2d: f must be floating point [fh, fw] or [taps], got {f.dtype} {list(f.shape)}")
    return f
