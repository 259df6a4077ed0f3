"""StyleGAN2's discriminator that also returns features of the image, which instance discrimination compares.

Snapshots carry the text of this file: it imports only what StyleGAN2-ADA has too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from torch_utils import persistence
from training.networks import Discriminator


class InsGenOutput(NamedTuple):
    """What the loss needs of one pass."""

    logits: torch.Tensor
    """[N, 1]."""
    features: torch.Tensor
    """[N, channels at 4x4]: the input of the last block, averaged over its 16 cells."""


@persistence.persistent_class
class InsGenDiscriminator(Discriminator):
    """StyleGAN2's discriminator; called as usual it returns the logits alone."""

    def forward(
        self, img: torch.Tensor, c: torch.Tensor | None, with_features: bool = False, **block_kwargs: Any
    ) -> Any:
        """Return the logits of images [N, img_channels, R, R] in [-1, 1], or an `InsGenOutput`."""
        if not with_features:
            return super().forward(img, c, **block_kwargs)
        x: torch.Tensor | None = None
        rest: torch.Tensor | None = img
        for res in self.block_resolutions:
            x, rest = getattr(self, f"b{res}")(x, rest, **block_kwargs)
        assert x is not None
        cmap = self.mapping(None, c) if self.c_dim > 0 else None
        return InsGenOutput(self.b4(x, rest, cmap), x.to(torch.float32).mean(dim=[2, 3]))
