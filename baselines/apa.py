"""Adaptive pseudo augmentation (arXiv 2111.06849): D takes some generated images for real ones, and overfits less."""

from __future__ import annotations

from typing import Any

import torch

from torch_utils import training_stats
from training.ada import AdaptiveAugmentation
from training.extensions import Extension, Logits

INTERVAL = 4
"""Iterations between two adjustments of p, as in ADA (arXiv 2006.06676)."""


class AdaptivePseudoAugmentation(Extension):
    """Replaces real images by the last images that were generated for D, each with probability p.

    p starts at 0 and follows the mean sign of D's logits of real images, as ADA's does.

    Args:
        extended_loss: The loss it extends.
        batch_size: Images per iteration.
        apa: True; the flag that switches it on.
        apa_target: Target of the mean sign.
        apa_kimg: Thousands of images in which p can move by 1.
    """

    def __init__(self, extended_loss: Any, batch_size: int, apa: bool, apa_target: float, apa_kimg: float) -> None:
        super().__init__(extended_loss, batch_size)
        self.p = torch.zeros([], device=self.loss.device)
        """The probability, a scalar."""
        self._controller = AdaptiveAugmentation(self.p, apa_target, INTERVAL, batch_size, apa_kimg, max_p=1)
        self._last_fakes = torch.zeros([0], device=self.loss.device)

    def replace_real(self, img: torch.Tensor) -> torch.Tensor:
        """Replace some of the images [N, C, H, W]; before any was generated, none."""
        if self._last_fakes.shape != img.shape:
            return img
        is_replaced = torch.rand([len(img), 1, 1, 1], device=img.device) < self.p
        return torch.where(is_replaced, self._last_fakes, img)

    def discriminator_term(self, kind: str, logits: Logits, img: torch.Tensor) -> None:
        """Remember what was generated; add nothing."""
        if kind == "fake":
            self._last_fakes = img.contiguous()  # as it is after a checkpoint: kernels depend on the memory format

    def end_iteration(self, batch_idx: int) -> None:
        """Adjust p."""
        self._controller.update(batch_idx)
        training_stats.report("APA/p", self.p)

    def state_dict(self) -> dict[str, Any]:
        """Return p, the statistics since it was adjusted, and the last generated images."""
        return {"p": self.p, "controller": self._controller.state_dict(), "last_fakes": self._last_fakes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.p.copy_(state["p"])
        self._controller.load_state_dict(state["controller"])
        self._last_fakes = state["last_fakes"].to(self.loss.device)
