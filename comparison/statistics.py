"""Means over seeds, values between snapshots, and what a difference of means is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
LARGEST_QUANTILE = 13.0
"""That of 95 % and one degree of freedom is 12.7; more degrees have smaller ones."""
MAX_SEEDS = 1000
NUM_STEPS = 4000
"""Of the integral over a density."""


@dataclass(frozen=True)
class Spread:
    """Values of several seeds in two numbers."""

    num: int
    mean: float
    std: float
    """Sample standard deviation; nan for a single value."""


def spread(values: Sequence[float]) -> Spread:
    """Describe at least one value."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Spread(len(values), float(np.mean(values)), std)


def value_at(x: float, xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Interpolate linearly between snapshots; None before the first and after the last, where nothing is known."""
    if not xs or not xs[0] - 1e-9 <= x <= xs[-1] + 1e-9:
        return None
    return float(np.interp(x, xs, ys))


@dataclass(frozen=True)
class Difference:
    """Of two means, by Welch's method, which does not assume equal deviations."""

    mean: float
    std_error: float
    half_width: float
    """Of the 95 % interval around ``mean``."""
    num_needed: int | None
    """Seeds per method at which a difference and deviations like these would leave zero outside; None if too many."""

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes zero."""
        return abs(self.mean) > self.half_width


def share_within(t: float, freedom: float) -> float:
    """Return the probability that Student's T lies between -t and t.

    Written out, for the sake of users who have no SciPy: with T = sqrt(freedom) tan(angle) its density is proportional
    to cos(angle) ** (freedom - 1).

    Args:
        t: From 0 to 13, for seven correct digits.
        freedom: Degrees of freedom, from 1, not necessarily whole.
    """
    widest = math.atan(t / math.sqrt(freedom))
    angles = (np.arange(NUM_STEPS) + 0.5) * (widest / NUM_STEPS)
    area = float(np.mean(np.cos(angles) ** (freedom - 1))) * widest
    whole = math.sqrt(math.pi) / 2 * math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2))
    return area / whole


def half_width(std_error: float, freedom: float) -> float:
    """Return half of the 95 % interval around a mean."""
    low, high = 0.0, LARGEST_QUANTILE
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (low, middle) if share_within(middle, freedom) > CONFIDENCE else (middle, high)
    return high * std_error


def difference(a: Spread, b: Spread) -> Difference | None:
    """Compare ``b`` with ``a``; None unless both have two seeds or more."""
    if min(a.num, b.num) < 2:
        return None
    parts = [a.std**2 / a.num, b.std**2 / b.num]
    variance = sum(parts)
    mean = b.mean - a.mean
    if variance == 0:
        return Difference(mean, 0.0, 0.0, 2 if mean else None)
    freedom = 1 / sum((part / variance) ** 2 / (each.num - 1) for part, each in zip(parts, (a, b), strict=True))
    std_error = math.sqrt(variance)
    return Difference(mean, std_error, half_width(std_error, freedom), _seeds_needed(mean, a, b))


def ratio_std_error(a: Spread, b: Spread) -> float:
    """Return the standard error of ``b.mean / a.mean``, to first order in those of the means; nan for single seeds."""
    return b.mean / a.mean * math.hypot(*(each.std / each.mean / math.sqrt(each.num) for each in (a, b)))


def _seeds_needed(mean: float, a: Spread, b: Spread) -> int | None:
    share = a.std**2 / (a.std**2 + b.std**2)
    for num in range(2, MAX_SEEDS + 1):
        std_error = math.sqrt((a.std**2 + b.std**2) / num)
        freedom = (num - 1) / (share**2 + (1 - share) ** 2)
        if share_within(min(abs(mean) / std_error, LARGEST_QUANTILE), freedom) > CONFIDENCE:
            return num
    return None
