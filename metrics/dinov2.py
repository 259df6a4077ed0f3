"""DINOv2 (arXiv:2304.07193) as a feature network: the Frechet distance that arXiv:2306.04675 recommends.

The weights are the published state dict of ViT-L/14 without registers (Apache-2.0); loading it executes nothing.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from dnnlib.errors import UserError

PATCH_PX = 14
INPUT_PX = 224
POSITIONS = 37
"""Side of the grid of positions in the file: that of images of 518 px."""

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_SHIFT = 0.1
"""Added to the size of the new grid of positions, as in training: it moves them by a fraction of a patch."""


class Block(torch.nn.Module):
    """A block of the transformer; the names of its parts are those of the file."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1, self.norm2 = (torch.nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.attn = torch.nn.ModuleDict(
            {"qkv": torch.nn.Linear(width, 3 * width), "proj": torch.nn.Linear(width, width)}
        )
        self.mlp = torch.nn.ModuleDict(
            {"fc1": torch.nn.Linear(width, 4 * width), "fc2": torch.nn.Linear(4 * width, width)}
        )
        self.ls1, self.ls2 = (
            torch.nn.ParameterDict({"gamma": torch.nn.Parameter(torch.ones(width))}) for _ in range(2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, tokens, width] -> the same."""
        qkv = self.attn["qkv"](self.norm1(x)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*qkv).transpose(1, 2).flatten(2)
        x = x + self.ls1["gamma"] * self.attn["proj"](attended)
        return x + self.ls2["gamma"] * self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class DinoV2(torch.nn.Module):
    """The network with the interface of a detector (see `metrics.detectors`).

    Args:
        weights: State dict of the published network of this size.
        width: Number of features.
        depth: Number of blocks.
        num_heads: Heads of attention.

    Raises:
        UserError: The file holds something else.
    """

    def __init__(self, weights: Path, width: int = 1024, depth: int = 24, num_heads: int = 16) -> None:
        super().__init__()
        with torch.device("meta"):
            self.cls_token = torch.nn.Parameter(torch.empty(1, 1, width))
            self.mask_token = torch.nn.Parameter(torch.empty(1, width))
            self.pos_embed = torch.nn.Parameter(torch.empty(1, 1 + POSITIONS**2, width))
            self.patch_embed = torch.nn.ModuleDict({"proj": torch.nn.Conv2d(3, width, PATCH_PX, PATCH_PX)})
            self.blocks = torch.nn.ModuleList(Block(width, num_heads) for _ in range(depth))
            self.norm = torch.nn.LayerNorm(width, eps=1e-6)
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)
            self.load_state_dict(state, assign=True)
        except Exception as err:  # damaged files make torch.load raise almost anything
            raise UserError(f"{weights} is not DINOv2 ViT-L/14: {str(err)[:200]!a}") from err
        self.eval().requires_grad_(False)

    def forward(self, img: torch.Tensor, return_features: bool = True) -> torch.Tensor:
        """Return the normalized class token, float32 [N, width].

        Args:
            img: RGB [N, 3, H, W] in 0..255, any dtype; resampled to 224 px (antialiased bicubic).
            return_features: There are no others.
        """
        x = F.interpolate(img.to(torch.float32), (INPUT_PX, INPUT_PX), mode="bicubic", antialias=True).clamp(0, 255)
        mean, std = (torch.tensor(values, device=x.device).reshape(3, 1, 1) for values in (_MEAN, _STD))
        x = self.patch_embed["proj"]((x / 255 - mean) / std).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self._positions()
        for block in self.blocks:
            x = block(x)
        features: torch.Tensor = self.norm(x[:, 0])
        return features

    def _positions(self) -> torch.Tensor:
        """Positions of the class token and of 16 x 16 patches."""
        grid = self.pos_embed[:, 1:].unflatten(1, (POSITIONS, POSITIONS)).permute(0, 3, 1, 2)
        scale = (INPUT_PX // PATCH_PX + _SHIFT) / POSITIONS
        grid = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
