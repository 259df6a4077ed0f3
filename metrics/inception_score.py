"""Inception score: how sharp and how varied the class predictions for generated images are.

"Improved Techniques for Training GANs" (arXiv:1606.03498, section 4): exp(E_x KL(p(y|x) || p(y))), mean and standard
deviation over equal splits of the images. It uses no real images.
"""

from __future__ import annotations

import numpy as np
import torch

from dnnlib.errors import UserError
from metrics import metric_utils
from metrics.detectors import INCEPTION


def inception_score(probs: np.ndarray, num_splits: int = 10) -> tuple[float, float]:
    """Return mean and (population) standard deviation, over the splits, of the score of probabilities [N, classes].

    Raises:
        UserError: There are fewer items than splits.
    """
    if len(probs) < num_splits:
        raise UserError(f"the inception score needs at least {num_splits} images, got {len(probs)}")
    p = torch.from_numpy(np.asarray(probs, dtype=np.float64))
    scores = []
    for i in range(num_splits):
        split = p[i * len(p) // num_splits : (i + 1) * len(p) // num_splits]
        divergence = torch.xlogy(split, split) - torch.xlogy(split, split.mean(dim=0))  # 0 log 0 is 0
        scores.append(divergence.sum(dim=1).mean().exp().item())
    return float(np.mean(scores)), float(np.std(scores))


def compute_is(
    opts: metric_utils.MetricOptions, num_gen: int, num_splits: int = 10, detector_url: str = INCEPTION
) -> tuple[float, float]:
    """Return mean and standard deviation of the score of ``num_gen`` generated images.

    Every process must call this; the values are NaN except on rank 0.
    """
    stats = metric_utils.compute_feature_stats_for_generator(
        opts, detector_url, {"no_output_bias": True}, capture_all=True, max_items=num_gen
    )
    if opts.rank != 0:
        return float("nan"), float("nan")
    return inception_score(stats.get_all(), num_splits)
