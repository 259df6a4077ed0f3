"""Means over seeds, values between snapshots, and what a difference of means is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
MAX_SEEDS = 1000


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
    """Interpolate linearly between snapshots; None before the first and after the last, which nothing is known of."""
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
        """Whether the interval leaves zero out."""
        return abs(self.mean) > self.half_width


def difference(a: Spread, b: Spread) -> Difference | None:
    """Compare ``b`` with ``a``; None unless both have two seeds or more."""
    from scipy.stats import t

    if min(a.num, b.num) < 2:
        return None
    parts = [a.std**2 / a.num, b.std**2 / b.num]
    variance = sum(parts)
    mean = b.mean - a.mean
    if variance == 0:
        return Difference(mean, 0.0, 0.0, 2 if mean else None)
    freedom = variance**2 / sum(part**2 / (each.num - 1) for part, each in zip(parts, (a, b), strict=True))
    half_width = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(variance)
    return Difference(mean, math.sqrt(variance), half_width, _seeds_needed(mean, a, b))


def _seeds_needed(mean: float, a: Spread, b: Spread) -> int | None:
    from scipy.stats import t

    for num in range(2, MAX_SEEDS + 1):
        std_error = math.sqrt((a.std**2 + b.std**2) / num)
        freedom = (num - 1) * (a.std**2 + b.std**2) ** 2 / (a.std**4 + b.std**4)
        if abs(mean) > t.ppf((1 + CONFIDENCE) / 2, freedom) * std_error:
            return num
    return None
