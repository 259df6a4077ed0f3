"""Adversarial terms over several scales.

Each scale counts by its weight, however many places it judges: places are averaged within a scale, then scales are
weighted, with weights that sum to 1. With the global scale alone everything equals StyleGAN2's terms exactly.

Shapes: N images, h height of a map; logits are [N, 1] at height 1 and [N, 1, h, h] above.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch.nn.functional import softplus

Maps = Mapping[int, torch.Tensor]
"""Logits, or something computed from them place by place, by height of the map."""


def scale_weights(scales: Sequence[int], weights: Sequence[float] | None) -> dict[int, float]:
    """Give each scale its weight, scaled to sum 1; None weighs them equally.

    Raises:
        ValueError: There is not one weight per scale.
    """
    if weights is None:
        weights = [1.0] * len(scales)
    if len(weights) != len(scales):
        raise ValueError(f"need {len(scales)} weights for scales {list(scales)}, got {list(weights)}")
    return {h: weight / sum(weights) for h, weight in zip(scales, weights, strict=True)}


def real_loss(logits: torch.Tensor) -> torch.Tensor:
    """-log sigmoid(logits): small where the image passes for real."""
    return softplus(-logits)


def fake_loss(logits: torch.Tensor) -> torch.Tensor:
    """-log(1 - sigmoid(logits)): small where the image passes for generated."""
    return softplus(logits)


def scale_means(logits: Maps, term: Callable[[torch.Tensor], torch.Tensor]) -> dict[int, torch.Tensor]:
    """Apply ``term`` to every logit and average over the places of each image: [N, 1] per scale."""
    return {h: term(x).flatten(1).mean(dim=1, keepdim=True) for h, x in logits.items()}


def weighted_sum(values: Maps, weights: Mapping[int, float]) -> torch.Tensor:
    """Sum up what scales say about each image, [N, 1] each, by their weights: [N, 1]."""
    return torch.stack([x * weights[h] for h, x in values.items()]).sum(dim=0)


def r1_score(logits: Maps, weights: Mapping[int, float], mode: str) -> torch.Tensor:
    """Reduce the logits of each image to the scalar whose squared gradient norm R1 penalises.

    Args:
        logits: Logits of all scales.
        weights: Weight of each scale, summing to 1.
        mode: ``mean`` is the weighted mean that the adversarial loss uses. ``rademacher`` gives every place a random
            sign and unit variance, so that the expected penalty is the weighted mean of the penalties of single
            logits. ``global`` is the logit at height 1.

    Returns:
        [N, 1].
    """
    if mode == "global":
        return logits[1]
    if mode == "mean":
        return weighted_sum(scale_means(logits, lambda x: x), weights)
    parts = []
    for h, x in logits.items():
        # A common sign changes nothing, so that one scale can do without.
        signs = torch.ones_like(x) if h == 1 else torch.randint_like(x, 2) * 2 - 1
        parts.append((x * signs).flatten(1).sum(dim=1, keepdim=True) * (weights[h] ** 0.5 / h))
    return torch.stack(parts).sum(dim=0)
