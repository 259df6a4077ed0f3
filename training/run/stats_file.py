"""``stats.jsonl``: a line of statistics for each tick of a run, read while another process may be writing it.

One rule for damage: a line that is no JSON object, or has no finite number of images seen, is no tick, and a statistic
without a finite mean and deviation of at least one value was not measured in its tick. Both are passed over; the other
lines keep their numbers.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dnnlib.jsonl import finite, read_lines

STATS_FILE = "stats.jsonl"
SAME_KIMG = 1e-6
"""Largest difference between equal numbers of images, in thousands: a thousandth of an image."""


class Tick(NamedTuple):
    """A line of ``stats.jsonl``."""

    number: int
    """Of the line, from 1."""
    kimg: float
    """Thousands of real images seen."""
    line: dict[str, Any]
    """Maps the name of each statistic to "num", "mean" and "std" of its values since the tick before."""

    def mean(self, name: str) -> float | None:
        """Return the mean of a statistic such as "Timing/total_sec"; None if it was not measured."""
        found = measured(self.line, name)
        return None if found is None else found[0]


class Series(NamedTuple):
    """One statistic over training: columns of equal length, with an entry for each tick that measured it."""

    number: np.ndarray
    """Of the line, from 1."""
    kimg: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    def between(self, first_kimg: float, last_kimg: float) -> Series:
        """Return the part from ``first_kimg`` to ``last_kimg``, both included."""
        is_within = (first_kimg - SAME_KIMG <= self.kimg) & (self.kimg <= last_kimg + SAME_KIMG)
        return Series(*(column[is_within] for column in self))


def measured(line: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    """Return mean and standard deviation of a statistic in a line of ``stats.jsonl``; None if it was not measured."""
    entry = line.get(name)
    if not isinstance(entry, dict):
        return None
    num, mean, std = (finite(entry.get(key)) for key in ("num", "mean", "std"))
    if num is None or num < 1 or mean is None or std is None:
        return None
    return mean, std


def read_ticks(run_dir: Path) -> Iterator[Tick]:
    """Yield the ticks of a run; there are none if the file is missing."""
    for number, line in read_lines(run_dir / STATS_FILE):
        if (kimg := measured(line, "Progress/kimg")) is not None:
            yield Tick(number, kimg[0], line)


def read_series(run_dir: Path) -> dict[str, Series]:
    """Read all statistics of a run by name, those that were ever measured."""
    rows: dict[str, array[float]] = defaultdict(lambda: array("d"))
    for tick in read_ticks(run_dir):
        for name in tick.line:
            if (found := measured(tick.line, name)) is not None:
                rows[name].extend((tick.number, tick.kimg, *found))
    series = {}
    for name, values in rows.items():
        number, *columns = np.asarray(values).reshape(-1, 4).T
        series[name] = Series(number.astype(int), *columns)
    return series
