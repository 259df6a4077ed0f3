"""Frechet distance between two sets of features, each summarized by a Gaussian.

"GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium" (arXiv:1706.08500, eq. 6)::

    d^2 = |m1 - m2|^2 + tr(S1 + S2 - 2 sqrt(S1 S2))

No matrix square root is needed. With any factors S = F^T F, tr S is the sum of the squares of F, and tr sqrt(S1 S2) is
the nuclear norm of F1 F2^T, because the eigenvalues of S1 S2 are the squared singular values of F1 F2^T. With fewer
items than feature dimensions, the centered features themselves are the smallest factor.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metrics import metric_utils
from metrics.detectors import INCEPTION, get_detector


class Gaussian(NamedTuple):
    """Mean [D] and a factor F [R, D] of the covariance F^T F, float64."""

    mean: np.ndarray
    factor: np.ndarray


def gaussian_from_moments(mean: np.ndarray, cov: np.ndarray) -> Gaussian:
    """Factorize a covariance matrix [D, D] by its eigendecomposition."""
    eigenvalues, eigenvectors = np.linalg.eigh(cov)
    return Gaussian(mean, np.sqrt(np.maximum(eigenvalues, 0))[:, np.newaxis] * eigenvectors.T)


def gaussian_from_features(features: np.ndarray) -> Gaussian:
    """Fit a Gaussian to features [N, D]; the covariance is normalized by 1/N."""
    features = np.asarray(features, dtype=np.float64)
    num_items, num_features = features.shape
    mean = features.mean(axis=0)
    centered = features - mean
    if num_items < num_features:
        return Gaussian(mean, centered / np.sqrt(num_items))
    return gaussian_from_moments(mean, centered.T @ centered / num_items)


def frechet_distance(real: Gaussian, gen: Gaussian) -> float:
    """Return the squared Frechet (2-Wasserstein) distance of two Gaussians (arXiv:1706.08500, eq. 6)."""
    cross = np.linalg.svd(real.factor @ gen.factor.T, compute_uv=False).sum()
    spread = np.square(real.factor).sum() + np.square(gen.factor).sum()
    return float(np.square(real.mean - gen.mean).sum() + spread - 2 * cross)


def compute_fid(
    opts: metric_utils.MetricOptions, max_real: int | None, num_gen: int, detector_url: str = INCEPTION
) -> float:
    """Return the Frechet distance of up to ``max_real`` real images (None: all) and ``num_gen`` generated ones.

    Every process must call this; the value is NaN except on rank 0.
    """
    num_features = get_detector(detector_url).num_features

    def capture(max_items: int | None) -> dict[str, bool]:
        is_low_rank = max_items is not None and num_features is not None and max_items < num_features
        return {"capture_all": is_low_rank, "capture_mean_cov": not is_low_rank}

    real, gen = metric_utils.compute_feature_stats_of_both(opts, detector_url, max_real, num_gen, capture)
    if opts.rank != 0:
        return float("nan")
    return frechet_distance(_gaussian(real), _gaussian(gen))


def _gaussian(stats: metric_utils.FeatureStats) -> Gaussian:
    return (
        gaussian_from_features(stats.get_all()) if stats.capture_all else gaussian_from_moments(*stats.get_mean_cov())
    )
