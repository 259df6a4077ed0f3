"""LeCam regularization (arXiv 2104.03310): logits of D stay close to the running mean of those of the other kind."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import relu

from torch_utils import training_stats
from training.extensions import Extension, Logits

DECAY = 0.99
"""Decay of the running means per iteration."""


class LeCam(Extension):
    """Adds lecam * (mean relu(D(x) - a_fake)^2 + mean relu(a_real - D(G(z)))^2) to D's main loss, for every scale.

    a_real and a_fake are running means of the logits on this process, from 0.

    Args:
        extended_loss: The loss it extends.
        batch_size: Images per iteration.
        lecam: Weight.
    """

    def __init__(self, extended_loss: Any, batch_size: int, lecam: float) -> None:
        super().__init__(extended_loss, batch_size)
        self.weight = lecam
        self.means: dict[str, torch.Tensor] = {}
        """By kind and height of the head, such as 'real_h1'."""
        self._seen: dict[str, list[torch.Tensor]] = {}

    def discriminator_term(self, kind: str, logits: Logits, img: torch.Tensor) -> torch.Tensor:
        """Return the weighted term of each image, [N]."""
        other, sign = ("fake", 1) if kind == "real" else ("real", -1)
        distances: dict[int, torch.Tensor] = {}
        for height, x in logits.items():
            self._seen.setdefault(f"{kind}_h{height}", []).append(x.detach().mean())
            anchor = self.means.get(f"{other}_h{height}", torch.zeros([], device=x.device))
            distances[height] = relu(sign * (x - anchor)).square()
        term = self.loss.mean_over_heads(distances)
        training_stats.report(f"LeCam/{kind}", term)
        return term * self.weight

    def end_iteration(self, batch_idx: int) -> None:
        """Move the running means by what the rounds of the iteration have shown."""
        for name, seen in self._seen.items():
            mean = torch.stack(seen).mean()
            self.means[name] = self.means.get(name, torch.zeros_like(mean)).lerp(mean, 1 - DECAY)
        self._seen.clear()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the running means."""
        return dict(self.means)

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `state_dict` returned."""
        self.means = {name: value.to(self.loss.device) for name, value in state.items()}
