"""The discriminator of Projected GAN (arXiv 2111.01007, section 3): heads on mixed features of a frozen network."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from baselines.projected.fastgan import BatchNorm2d, SpectralNormConv2d
from baselines.projected.features import TAP_CHANNELS, FeaturePyramid
from dnnlib.formatting import plural
from torch_utils import persistence

CCM_CHANNELS = (64, 128, 256, 512)
"""Cross-channel mixing: channels of the finest to the coarsest level."""
CSM_CHANNELS = (64, 64, 128, 256)
"""Cross-scale mixing: channels of y0 to y3."""
FIRST_SIDES = (128, 64, 32, 16)
"""Nominal sides of y0 to y3, those of images of 256 px; they fix the number of blocks of each head."""
LAST_SIDE = 8
HEAD_CHANNELS = {8: 512, 16: 256, 32: 128, 64: 64, 128: 64, 256: 32}
LABEL_FEATURES, LABEL_HIDDEN = 64, 128


@persistence.persistent_class
class RandomProjection(torch.nn.Module):
    """A 1x1 convolution that keeps its random weights; they are saved with D, or its features would change."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_channels)  # PyTorch's own initial values
        self.register_buffer("weight", torch.empty([out_channels, in_channels, 1, 1]).uniform_(-bound, bound))
        self.register_buffer("bias", torch.empty([out_channels]).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, I, H, W]`` to ``[N, O, H, W]``."""
        return functional.conv2d(x, self.weight, self.bias)


@persistence.persistent_class
class ProjectedFeatures(torch.nn.Module):
    """Frozen features, mixed over channels (CCM), then over scales from the coarsest up (CSM); nothing is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.pyramid = FeaturePyramid()
        for i, (in_channels, out_channels) in enumerate(zip(TAP_CHANNELS, CCM_CHANNELS, strict=True)):
            setattr(self, f"channel_mix{i}", RandomProjection(in_channels, out_channels))
            setattr(self, f"scale_mix{i}", RandomProjection(out_channels, CSM_CHANNELS[i]))

    def forward(self, img: torch.Tensor) -> list[torch.Tensor]:
        """Images [N, 3, H, W] in [-1, 1] to y0 to y3, [N, `CSM_CHANNELS`, h, w], from the finest to the coarsest."""
        mixed = [getattr(self, f"channel_mix{i}")(x) for i, x in enumerate(self.pyramid(img))]
        outputs: list[torch.Tensor] = []
        for i in reversed(range(len(mixed))):
            x = mixed[i] if not outputs else mixed[i] + outputs[-1]
            size = mixed[i - 1].shape[2:] if i > 0 else [2 * side for side in x.shape[2:]]
            x = functional.interpolate(x, size=size, mode="bilinear", align_corners=True)
            outputs.append(getattr(self, f"scale_mix{i}")(x))
        return outputs[::-1]


@persistence.persistent_class
class DownBlock(torch.nn.Module):
    """Halves the side.

    Args:
        is_separable: A 3x3 filter per channel, a 1x1 convolution and average pooling instead of a 4x4 convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, is_separable: bool) -> None:
        super().__init__()
        self.is_separable = is_separable
        if is_separable:
            self.depthwise = SpectralNormConv2d(in_channels, in_channels, 3, padding=1, groups=in_channels)
            self.conv = SpectralNormConv2d(in_channels, out_channels, 1)
        else:
            self.conv = SpectralNormConv2d(in_channels, out_channels, 4, stride=2, padding=1, bias=True)
        self.norm = BatchNorm2d(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, I, H, W]`` to ``[N, O, H / 2, W / 2]``."""
        x = self.conv(self.depthwise(x) if self.is_separable else x)
        x = functional.leaky_relu(self.norm(x), 0.2)
        return functional.avg_pool2d(x, 2) if self.is_separable else x


@persistence.persistent_class
class Head(torch.nn.Module):
    """Logits of one level.

    Args:
        in_channels: Channels of the features.
        first_side: Their nominal side.
        c_dim: Width of the labels, 0 without.
    """

    def __init__(self, in_channels: int, first_side: int, c_dim: int, is_separable: bool) -> None:
        super().__init__()
        self.c_dim = c_dim
        self.num_blocks = (first_side // LAST_SIDE).bit_length() - 1
        for i in range(self.num_blocks):
            out_channels = HEAD_CHANNELS[first_side // 2 ** (i + 1)]
            setattr(self, f"down{i}", DownBlock(in_channels, out_channels, is_separable))
            in_channels = out_channels
        self.output = SpectralNormConv2d(in_channels, LABEL_FEATURES if c_dim > 0 else 1, 4)
        if c_dim > 0:
            self.label0 = SpectralNormConv2d(c_dim, LABEL_HIDDEN, 1)
            self.label1 = SpectralNormConv2d(LABEL_HIDDEN, LABEL_FEATURES, 1, bias=True)

    def forward(self, x: torch.Tensor, c: torch.Tensor | None) -> torch.Tensor:
        """Features [N, in_channels, H, W] and labels [N, c_dim] to logits [N, M]."""
        for i in range(self.num_blocks):
            x = getattr(self, f"down{i}")(x)
        x = self.output(x)
        if self.c_dim > 0:  # Projection discriminator (arXiv 1802.05637).
            assert c is not None
            embedding = functional.leaky_relu(self.label1(self.label0(c.to(x.dtype)[:, :, None, None])), 0.2)
            x = (x * embedding).sum(dim=1, keepdim=True) / math.sqrt(LABEL_FEATURES)
        return x.flatten(1)


@persistence.persistent_class
class ProjectedDiscriminator(torch.nn.Module):
    """Four heads on projected features of the image.

    Args:
        c_dim: Width of the labels, 0 without.
        img_resolution: Height and width of the image; the number of layers does not depend on it.
        img_channels: 3.
        is_separable: Cheaper blocks, which Projected GAN pairs with StyleGAN2's generator.

    Raises:
        ValueError: The images are not RGB.
    """

    pretrained = "EfficientNet-Lite0 (ImageNet)"
    """Pretrained feature network and its training set, which metrics record."""

    def __init__(self, c_dim: int, img_resolution: int, img_channels: int, is_separable: bool = False) -> None:
        super().__init__()
        if img_channels != 3:
            found = plural(img_channels, "channel")
            raise ValueError(f"the feature network of --cfg=projected needs RGB images, got {found}")
        self.c_dim, self.img_resolution, self.img_channels = c_dim, img_resolution, img_channels
        self.features = ProjectedFeatures()
        for i, (channels, side) in enumerate(zip(CSM_CHANNELS, FIRST_SIDES, strict=True)):
            setattr(self, f"head{i}", Head(channels, side, c_dim, is_separable))

    def forward(self, img: torch.Tensor, c: torch.Tensor | None) -> torch.Tensor:
        """Logits of all heads [N, M] of images [N, 3, R, R] in [-1, 1] with labels [N, c_dim]."""
        features = self.features(img)
        return torch.cat([getattr(self, f"head{i}")(x, c) for i, x in enumerate(features)], dim=1)
