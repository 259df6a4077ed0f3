"""Adaptive discriminator augmentation: p follows the sign of D's real logits (arXiv 2006.06676, section 3)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from torch_utils import training_stats


class AdaptiveAugmentation:
    """Adjusts a probability p so that r_t, the mean sign of D's logits of real images, stays at a target.

    r_t is over all processes, so that p is the same in each. Its statistics are those that losses report as
    ``Loss/signs/real``.

    Args:
        p: The probability, such as the buffer ``p`` of an augmentation pipe: a float32 scalar, changed in place.
        target: Target of r_t, from -1 to 1.
        interval: Iterations between two adjustments.
        batch_size: Images per iteration.
        ada_kimg: Thousands of images in which p can move by 1.
        max_p: Upper bound of p; None for no bound.
    """

    def __init__(
        self,
        p: torch.Tensor,
        target: float,
        interval: int,
        batch_size: int,
        ada_kimg: float,
        max_p: float | None,
    ) -> None:
        self._p = p
        self._target = target
        self._interval = interval
        self._step = batch_size * interval / (ada_kimg * 1000)
        self._max_p = max_p
        self._signs = training_stats.Collector(regex="Loss/signs/real")

    def update(self, batch_idx: int) -> None:
        """Adjust p after iteration ``batch_idx`` if an interval is over.

        Every process must call this; an adjustment waits for the device and for the statistics of all processes.
        """
        if batch_idx % self._interval != 0:
            return
        self._signs.update()  # waits, as p of the next iteration depends on the logits of this one
        # Without statistics, or with NaN among them, p stays: a NaN in p would never go away.
        direction = np.nan_to_num(np.sign(self._signs["Loss/signs/real"] - self._target))
        self._p.copy_((self._p + direction * self._step).clamp(0, self._max_p))

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics since the last adjustment; whoever owns p keeps it."""
        return self._signs.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._signs.load_state_dict(state)
