"""Kernel inception distance: the unbiased squared maximum mean discrepancy with a cubic kernel.

"Demystifying MMD GANs" (arXiv:1801.01401, section 4 and eq. 3): k(x, y) = (x.y / D + 1)^3, averaged over random
subsets. Unlike the Frechet distance its expectation does not depend on the number of items.
"""

from __future__ import annotations

import numpy as np

from dnnlib.errors import UserError
from metrics import metric_utils
from metrics.detectors import INCEPTION


def polynomial_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return (x.y / D + 1)^3 for all pairs: [N, D], [M, D] -> [N, M]."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def squared_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Return an unbiased estimate of the squared discrepancy of two samples [M, D] of equal size; may be negative."""
    num_items = len(x)
    within = polynomial_kernel(x, x) + polynomial_kernel(y, y)
    between = polynomial_kernel(x, y)
    return float((within.sum() - np.trace(within)) / (num_items * (num_items - 1)) - 2 * between.sum() / num_items**2)


def kernel_distance(
    real: np.ndarray, gen: np.ndarray, num_subsets: int, max_subset_size: int, rng: np.random.RandomState
) -> float:
    """Average `squared_mmd` over random subsets, drawn without replacement.

    Each round draws the generated subset first, as in StyleGAN2-ADA (docs/compatibility.md). The dtype of the features
    is kept: published values are float32, whose rounding error is about 1e-7 of the mean kernel value.

    Args:
        real: Features [N, D].
        gen: Features [M, D].
        num_subsets: Number of pairs of subsets.
        max_subset_size: Items per subset, unless a set has fewer.
        rng: Draws the subsets.

    Raises:
        UserError: A set has fewer than two items.
    """
    subset_size = min(len(real), len(gen), max_subset_size)
    if subset_size < 2:
        raise UserError(f"the kernel distance needs 2 items in each set, got {len(real)} real and {len(gen)} generated")
    total = 0.0
    for _ in range(num_subsets):
        gen_subset = gen[rng.choice(len(gen), subset_size, replace=False)]
        real_subset = real[rng.choice(len(real), subset_size, replace=False)]
        total += squared_mmd(gen_subset, real_subset)
    return total / num_subsets


def compute_kid(
    opts: metric_utils.MetricOptions,
    max_real: int | None,
    num_gen: int,
    num_subsets: int = 100,
    max_subset_size: int = 1000,
    detector_url: str = INCEPTION,
) -> float:
    """Return the kernel distance of up to ``max_real`` real images (None: all) and ``num_gen`` generated ones.

    Every process must call this; the value is NaN except on rank 0.
    """
    real, gen = metric_utils.compute_feature_stats_of_both(opts, detector_url, max_real, num_gen)
    if opts.rank != 0:
        return float("nan")
    rng = np.random.RandomState(opts.seed)
    return kernel_distance(real.get_all(), gen.get_all(), num_subsets, max_subset_size, rng)
