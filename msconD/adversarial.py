"""Adversarial losses over several scales.

Logits are averaged over the cells of a scale first, then over scales with weights that sum to 1, so that a scale counts
by its weight and not by its number of cells. With the global scale alone everything equals StyleGAN2's loss exactly.

Shapes: N images, h height of a map; logits are [N, 1] at height 1 and [N, 1, h, h] above.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch.nn.functional import softplus

PerScale = Mapping[int, torch.Tensor]
"""Logits, or values computed from each of them, by height of the map."""


def scale_weights(scales: Sequence[int], weights: Sequence[float] | None) -> dict[int, float]:
    """Return the weight of each scale, normalized to sum to 1; None weighs them equally.

    Raises:
        ValueError: The number of weights is not that of the scales.
    """
    if weights is None:
        weights = [1.0] * len(scales)
    if len(weights) != len(scales):
        raise ValueError(f"need {len(scales)} weights for scales {list(scales)}, got {len(weights)}")
    return {h: weight / sum(weights) for h, weight in zip(scales, weights, strict=True)}


def real_loss(logits: torch.Tensor) -> torch.Tensor:
    """Return -log sigmoid(logits): small where the image is taken for real."""
    return softplus(-logits)


def fake_loss(logits: torch.Tensor) -> torch.Tensor:
    """Return -log(1 - sigmoid(logits)): small where the image is taken for generated."""
    return softplus(logits)


def scale_means(logits: PerScale, term: Callable[[torch.Tensor], torch.Tensor]) -> dict[int, torch.Tensor]:
    """Apply ``term`` to every logit and average over the cells of each image: [N, 1] per scale."""
    return {h: term(x).flatten(1).mean(dim=1, keepdim=True) for h, x in logits.items()}


def weighted_sum(values: PerScale, weights: Mapping[int, float]) -> torch.Tensor:
    """Sum the values of the scales, [N, 1] each, by their weights: [N, 1]."""
    return torch.stack([x * weights[h] for h, x in values.items()]).sum(dim=0)


def r1_score(logits: PerScale, weights: Mapping[int, float], mode: str) -> torch.Tensor:
    """Reduce the logits of each image to the scalar whose squared gradient norm R1 penalizes.

    Args:
        logits: Logits of all scales.
        weights: Weight of each scale, summing to 1.
        mode: ``mean`` is the weighted mean that the adversarial loss uses. ``rademacher`` gives every logit a random
            sign and scales their sum such that the expected penalty is the weighted mean of the penalties of single
            logits (docs/method.md, "R1 over scales"). ``global`` is the logit at height 1.

    Returns:
        [N, 1].
    """
    if mode == "global":
        return logits[1]
    if mode == "mean":
        return weighted_sum(scale_means(logits, lambda x: x), weights)
    parts = []
    for h, x in logits.items():
        # A common sign changes nothing, so one scale needs none.
        signs = torch.ones_like(x) if h == 1 else torch.randint_like(x, 2) * 2 - 1
        parts.append((x * signs).flatten(1).sum(dim=1, keepdim=True) * (weights[h] ** 0.5 / h))
    return torch.stack(parts).sum(dim=0)
