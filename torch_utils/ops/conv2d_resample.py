"""2D convolution with optional up- or downsampling of the image (StyleGAN2, arXiv 1912.04958, appendix B).

Mathematically: zero-stuff and low-pass (up), convolve, low-pass and decimate (down). Each case is computed in the
cheapest equivalent order, and the stride always goes into the convolution itself.
"""

from __future__ import annotations

import torch

from torch_utils.ops import conv2d_gradfix, upfirdn2d
from torch_utils.ops.fir_filter import pad_or_crop
from torch_utils.ops.upfirdn2d import IntPair, filter_size

MIXED_DTYPES = (torch.float32, torch.bfloat16)
"""Dtypes of images and weights that may differ."""


def conv2d_resample(
    x: torch.Tensor,
    w: torch.Tensor,
    f: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: IntPair = 0,
    groups: int = 1,
    flip_weight: bool = True,
    flip_filter: bool = False,
) -> torch.Tensor:
    """Convolve and resample images; differentiable to any order in ``x`` and ``w``.

    Args:
        x: Images ``[N, I, H, W]``.
        w: Weights ``[O, I / groups, kh, kw]`` of the dtype of ``x``, or bfloat16 for float32 images: then only the
            convolution is computed in bfloat16, not the filter.
        f: Low-pass filter from `upfirdn2d.setup_filter`; None is the identity.
        up: Integer upsampling factor.
        down: Integer downsampling factor.
        padding: In pixels of the upsampled image: int, ``[x, y]`` or ``[x0, x1, y0, y1]``; applied once.
        groups: Convolution groups.
        flip_weight: True correlates as ``torch.nn.functional.conv2d`` does, False convolves.
        flip_filter: The same choice for the filter, as in `upfirdn2d.upfirdn2d`.

    Returns:
        Images ``[N, O, H', W']`` of the dtype of ``x``.

    Raises:
        ValueError: Shapes, dtypes or factors do not fit.
    """
    _validate(x, w, up, down, groups)
    pads = list(upfirdn2d.parse_padding(padding))
    if up > 1:
        pads = upfirdn2d.pads_for_upsampling(f, (up, up), pads)
    if down > 1:
        pads = upfirdn2d.pads_for_downsampling(f, (down, down), pads)
    _check_fits(x, w, filter_size(f) if max(up, down) > 1 else (1, 1), up, pads)
    is_pointwise = w.shape[2] == w.shape[3] == 1

    if up > 1 and down == 1:
        if is_pointwise:  # Commutes with the filter, so it runs on the small image.
            x = _convolve(x, w, groups, flip_weight)
            return upfirdn2d.upfirdn2d(x, f, up=up, padding=pads, gain=up**2, flip_filter=flip_filter)
        x, pads = _convolve_zero_stuffed(x, w, up, pads, groups, flip_weight)
        return upfirdn2d.upfirdn2d(x, f, padding=pads, gain=up**2, flip_filter=flip_filter)
    if down > 1 and up == 1:
        if is_pointwise:
            x = upfirdn2d.upfirdn2d(x, f, down=down, padding=pads, flip_filter=flip_filter)
            return _convolve(x, w, groups, flip_weight)
        x = upfirdn2d.upfirdn2d(x, f, padding=pads, flip_filter=flip_filter)
        return _convolve(x, w, groups, flip_weight, stride=down)
    if up > 1:  # Up and down at once: the definition.
        x = upfirdn2d.upfirdn2d(x, f, up=up, padding=pads, gain=up**2, flip_filter=flip_filter)
        x = _convolve(x, w, groups, flip_weight)
        return upfirdn2d.upfirdn2d(x, f, down=down, flip_filter=flip_filter)
    if pads[0] != pads[1] or pads[2] != pads[3] or min(pads) < 0:
        x, pads = pad_or_crop(x, pads), [0, 0, 0, 0]
    return _convolve(x, w, groups, flip_weight, padding=(pads[2], pads[0]))


def _validate(x: torch.Tensor, w: torch.Tensor, up: int, down: int, groups: int) -> None:
    if x.ndim != 4 or w.ndim != 4 or w.numel() == 0:
        raise ValueError(
            f"conv2d_resample: needs x [N, I, H, W] and w [O, I/groups, kh, kw], not empty, "
            f"got {list(x.shape)} and {list(w.shape)}"
        )
    if (x.dtype != w.dtype and (x.dtype, w.dtype) != MIXED_DTYPES) or not x.is_floating_point():
        raise ValueError(f"conv2d_resample: x and w must have one floating-point dtype, got {x.dtype} and {w.dtype}")
    if not all(isinstance(number, int) and number >= 1 for number in (up, down, groups)):
        raise ValueError(f"conv2d_resample: up, down and groups must be positive ints, got {up}, {down} and {groups}")
    if x.shape[1] != w.shape[1] * groups or w.shape[0] % groups != 0:
        raise ValueError(
            f"conv2d_resample: x has {x.shape[1]} channels, but w {list(w.shape)} with groups={groups} "
            f"takes {w.shape[1] * groups} and gives {w.shape[0]}"
        )


def _check_fits(x: torch.Tensor, w: torch.Tensor, filter_wh: tuple[int, int], up: int, pads: list[int]) -> None:
    height = x.shape[2] * up + pads[2] + pads[3] - filter_wh[1] + 1
    width = x.shape[3] * up + pads[0] + pads[1] - filter_wh[0] + 1
    if height < w.shape[2] or width < w.shape[3]:
        raise ValueError(
            f"conv2d_resample: w {list(w.shape)} is larger than the padded, filtered image {[height, width]}; pad more"
        )


def _convolve(
    x: torch.Tensor,
    w: torch.Tensor,
    groups: int,
    flip_weight: bool,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
) -> torch.Tensor:
    if not flip_weight and (w.shape[2] > 1 or w.shape[3] > 1):
        w = w.flip([2, 3])
    return conv2d_gradfix.conv2d(x.to(w.dtype), w, stride=stride, padding=padding, groups=groups).to(x.dtype)


def _convolve_zero_stuffed(
    x: torch.Tensor, w: torch.Tensor, up: int, pads: list[int], groups: int, flip_weight: bool
) -> tuple[torch.Tensor, list[int]]:
    """Convolve the zero-stuffed image by a transposed convolution; returns it and the padding that is still due."""
    out_channels, group_channels, kh, kw = w.shape
    if groups > 1:
        w = w.reshape(groups, out_channels // groups, group_channels, kh, kw).transpose(1, 2)
        w = w.reshape(groups * group_channels, out_channels // groups, kh, kw)
    else:
        w = w.transpose(0, 1)
    if flip_weight:  # A transposed convolution flips the kernel.
        w = w.flip([2, 3])
    pads = [pads[0] - (kw - 1), pads[1] - (kw - up), pads[2] - (kh - 1), pads[3] - (kh - up)]
    crop_x = max(min(-pads[0], -pads[1]), 0)
    crop_y = max(min(-pads[2], -pads[3]), 0)
    y = conv2d_gradfix.conv_transpose2d(x.to(w.dtype), w, stride=up, padding=(crop_y, crop_x), groups=groups)
    return y.to(x.dtype), [pads[0] + crop_x, pads[1] + crop_x, pads[2] + crop_y, pads[3] + crop_y]
