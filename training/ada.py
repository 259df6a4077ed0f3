"""Adaptive discriminator augmentation: p follows the sign of D's real logits (arXiv 2006.06676, section 3)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from torch_utils import training_stats


class AdaptiveAugmentation:
    """Adjusts ``augment_pipe.p`` so that r_t, the mean sign of D's logits of real images, stays at a target.

    Args:
        augment_pipe: Has the buffer ``p``.
        target: Target of r_t.
        interval: Iterations between two adjustments.
        batch_size: Images per iteration.
        ada_kimg: Thousands of images in which p can move by 1.
        max_p: Upper bound of p; None for no bound.
    """

    def __init__(
        self,
        augment_pipe: torch.nn.Module,
        target: float,
        interval: int,
        batch_size: int,
        ada_kimg: float,
        max_p: float | None,
    ) -> None:
        self._p: torch.Tensor = augment_pipe.get_buffer("p")
        self._target = target
        self._interval = interval
        self._step = batch_size * interval / (ada_kimg * 1000)
        self._max_p = max_p
        self._signs = training_stats.Collector(regex="Loss/signs/real")

    def update(self, batch_idx: int) -> None:
        """Adjust p after iteration ``batch_idx`` if an interval is over; every process must call this."""
        if batch_idx % self._interval != 0:
            return
        self._signs.update()  # waits for the device: p of the next iteration depends on the logits of this one
        # Without statistics, or with NaN among them, p stays: a NaN in p would never go away.
        direction = np.nan_to_num(np.sign(self._signs["Loss/signs/real"] - self._target))
        self._p.copy_((self._p + direction * self._step).clamp(0, self._max_p))

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics since the last adjustment; p itself belongs to the pipe."""
        return self._signs.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._signs.load_state_dict(state)
