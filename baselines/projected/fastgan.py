"""The generator of FastGAN (arXiv 2101.04775) with the interface of StyleGAN2's, as Projected GAN uses it.

Snapshots carry the text of this file: it imports only what StyleGAN2-ADA has too. `SpectralNormConv2d` and
`BatchNorm2d` also serve the discriminator.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional
from torch.nn.functional import normalize

from torch_utils import persistence
from training.networks import normalize_2nd_moment

NGF_AT_FULL_WIDTH = 128
WIDTHS = {4: 16, 8: 8, 16: 4, 32: 2, 64: 2, 128: 1, 256: 0.5, 512: 0.25, 1024: 0.125}
"""Channels by side, in units of ngf."""
GATES = {64: 4, 128: 8, 256: 16, 512: 32}
"""Skip-layer excitation: the features at each of these sides are multiplied by gates from those at a smaller one."""


@persistence.persistent_class
class SpectralNormConv2d(torch.nn.Module):
    """Convolution whose weight matrix has spectral norm 1 (arXiv 1802.05957); one power iteration per pass.

    Args:
        is_transposed: Transposed convolution.
    """

    u: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = False,
        groups: int = 1,
        is_transposed: bool = False,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.groups, self.is_transposed = stride, padding, groups, is_transposed
        shape = [in_channels, out_channels] if is_transposed else [out_channels, in_channels // groups]
        fan_in = in_channels // groups * kernel_size**2
        bound = 1 / math.sqrt(fan_in)  # as PyTorch initializes convolutions
        self.weight = torch.nn.Parameter(torch.empty([*shape, kernel_size, kernel_size]).uniform_(-bound, bound))
        self.bias = torch.nn.Parameter(torch.empty([out_channels]).uniform_(-bound, bound)) if bias else None
        self.register_buffer("u", normalize(torch.randn([out_channels]), dim=0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, I, H, W]`` to ``[N, O, H', W']``."""
        weight = self.weight / self._spectral_norm()
        if self.is_transposed:
            return functional.conv_transpose2d(x, weight, self.bias, self.stride, self.padding)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding, groups=self.groups)

    def _spectral_norm(self) -> torch.Tensor:
        matrix = (self.weight.transpose(0, 1) if self.is_transposed else self.weight).flatten(1)
        with torch.no_grad():
            v = normalize(matrix.t() @ self.u, dim=0)
            u = normalize(matrix @ v, dim=0)
            if self.training:
                self.u.copy_(u)
        return u @ matrix @ v


@persistence.persistent_class
class BatchNorm2d(torch.nn.BatchNorm2d):
    """PyTorch's, as a class that snapshots may name."""


@persistence.persistent_class
class ConvBlock(torch.nn.Module):
    """Convolution, noise, batch normalization and gated linear unit (arXiv 1612.08083).

    Args:
        has_noise: Add noise of learned strength.
    """

    def __init__(self, in_channels: int, out_channels: int, has_noise: bool) -> None:
        super().__init__()
        self.conv = SpectralNormConv2d(in_channels, 2 * out_channels, kernel_size=3, padding=1)
        self.noise_strength = torch.nn.Parameter(torch.zeros([])) if has_noise else None
        self.norm = BatchNorm2d(2 * out_channels)

    def forward(self, x: torch.Tensor, noise_mode: str) -> torch.Tensor:
        """``[N, I, H, W]`` to ``[N, O, H, W]``; noise only if ``noise_mode`` is 'random'."""
        x = self.conv(x)
        if self.noise_strength is not None and noise_mode == "random":
            x = x + self.noise_strength * torch.randn([len(x), 1, *x.shape[2:]], device=x.device)
        return functional.glu(self.norm(x), dim=1)


@persistence.persistent_class
class UpBlock(torch.nn.Module):
    """Doubles the side.

    Args:
        is_small: One convolution without noise instead of two.
        use_noise: Add noise after the two convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int, is_small: bool, use_noise: bool) -> None:
        super().__init__()
        self.conv0 = ConvBlock(in_channels, out_channels, has_noise=use_noise and not is_small)
        self.conv1 = None if is_small else ConvBlock(out_channels, out_channels, has_noise=use_noise)

    def forward(self, x: torch.Tensor, noise_mode: str) -> torch.Tensor:
        """``[N, I, H, W]`` to ``[N, O, 2 H, 2 W]``."""
        x = self.conv0(functional.interpolate(x, scale_factor=2, mode="nearest"), noise_mode)
        return x if self.conv1 is None else self.conv1(x, noise_mode)


@persistence.persistent_class
class Gate(torch.nn.Module):
    """Skip-layer excitation: one factor per channel, from features at a smaller side."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv0 = SpectralNormConv2d(in_channels, out_channels, kernel_size=4)
        self.conv1 = SpectralNormConv2d(out_channels, out_channels, kernel_size=1)

    def forward(self, small: torch.Tensor) -> torch.Tensor:
        """``[N, I, h, w]`` to ``[N, O, 1, 1]`` in (0, 1)."""
        x = functional.silu(self.conv0(functional.adaptive_avg_pool2d(small, 4)))
        return torch.sigmoid(self.conv1(x))


@persistence.persistent_class
class FastGANMapping(torch.nn.Module):
    """Normalizes z; there is no w of its own, and no truncation.

    Args:
        z_dim: Width of z and of ws.
        c_dim: Accepted for the interface; labels have no effect.
    """

    def __init__(self, z_dim: int, c_dim: int) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.num_ws = z_dim, c_dim, z_dim, 1

    def forward(
        self,
        z: torch.Tensor,
        c: torch.Tensor | None,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        skip_w_avg_update: bool = False,
    ) -> torch.Tensor:
        """Latents ``[N, z_dim]`` to ``[N, 1, z_dim]``.

        Raises:
            ValueError: ``z`` has a wrong shape, or truncation is asked for.
        """
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"latents z must have shape [N, {self.z_dim}], got {list(z.shape)}")
        if truncation_psi != 1:
            raise ValueError(f"truncation_psi={truncation_psi} needs a mean of w, which FastGAN does not have; use 1")
        return normalize_2nd_moment(z)[:, None]


@persistence.persistent_class
class FastGANSynthesis(torch.nn.Module):
    """Turns ws into images.

    Args:
        is_lite: Small blocks.
        ngf: Unit of the numbers of channels.
        use_noise: Add noise in blocks that are not small.
    """

    def __init__(
        self, w_dim: int, img_resolution: int, img_channels: int, is_lite: bool, ngf: int, use_noise: bool
    ) -> None:
        super().__init__()
        self.w_dim, self.num_ws = w_dim, 1
        self.img_resolution, self.img_channels = img_resolution, img_channels
        self.sides = [2**i for i in range(2, img_resolution.bit_length())]
        channels = {side: max(int(ngf * WIDTHS[side]), 1) for side in self.sides}
        self.initial = SpectralNormConv2d(w_dim, 2 * channels[4], kernel_size=4, is_transposed=True)
        self.norm = BatchNorm2d(2 * channels[4])
        for side in self.sides[1:]:
            setattr(self, f"b{side}", UpBlock(channels[side // 2], channels[side], is_lite, use_noise))
            if side in GATES:
                setattr(self, f"gate{side}", Gate(channels[GATES[side]], channels[side]))
        self.output = SpectralNormConv2d(channels[img_resolution], img_channels, kernel_size=3, padding=1, bias=True)

    def forward(self, ws: torch.Tensor, noise_mode: str = "random", **unused_kwargs: Any) -> torch.Tensor:
        """``[N, 1, w_dim]`` to images ``[N, img_channels, R, R]``; noise only if ``noise_mode`` is 'random'."""
        x = functional.glu(self.norm(self.initial(ws[:, 0, :, None, None])), dim=1)
        features = {4: x}
        for side in self.sides[1:]:
            x = getattr(self, f"b{side}")(x, noise_mode)
            if side in GATES:
                x = x * getattr(self, f"gate{side}")(features[GATES[side]])
            features[side] = x
        img: torch.Tensor = self.output(x)
        return img


@persistence.persistent_class
class FastGANGenerator(torch.nn.Module):
    """FastGAN's generator, called as StyleGAN2's.

    Args:
        z_dim: Width of the latents z; ``w_dim`` is the same.
        c_dim: Width of the labels, which have no effect.
        img_resolution: Side of the image, a power of two from 8 to 1024; published from 256.
        img_channels: Color channels.
        is_lite: Small blocks.
        ngf: Unit of the numbers of channels.
        use_noise: Add noise in blocks that are not small.

    Raises:
        ValueError: The resolution is not one of those.
    """

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        img_resolution: int,
        img_channels: int,
        is_lite: bool = False,
        ngf: int = NGF_AT_FULL_WIDTH,
        use_noise: bool = True,
    ) -> None:
        super().__init__()
        if img_resolution not in WIDTHS or img_resolution < 8:
            raise ValueError(f"FastGAN makes images of 8, 16, ... 1024 px, got {img_resolution}")
        self.z_dim, self.c_dim, self.w_dim, self.num_ws = z_dim, c_dim, z_dim, 1
        self.img_resolution, self.img_channels = img_resolution, img_channels
        self.mapping = FastGANMapping(z_dim, c_dim)
        self.synthesis = FastGANSynthesis(z_dim, img_resolution, img_channels, is_lite, ngf, use_noise)

    def forward(
        self,
        z: torch.Tensor,
        c: torch.Tensor | None,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        **synthesis_kwargs: Any,
    ) -> torch.Tensor:
        """Latents ``[N, z_dim]`` to images ``[N, img_channels, R, R]``."""
        img: torch.Tensor = self.synthesis(self.mapping(z, c, truncation_psi, truncation_cutoff), **synthesis_kwargs)
        return img
