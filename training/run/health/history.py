"""The history of a run on which warnings are based: its last ticks, measurements of its samples, and its scores."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dnnlib.jsonl import finite
from training.run.roles import AUGMENTATION

WINDOW_TICKS = 10
"""Ticks that a condition must hold to count as lasting; in as many ticks of 4 kimg, ADA moves p by at most 0.08."""
DIVERSITY = "Health/diversity"
NEAREST_REAL = "Health/nearest_real"
LEAK = "Health/leak"
MEASUREMENTS = (DIVERSITY, NEAREST_REAL, LEAK)
"""Statistics of sample grids (`training.run.health.samples`)."""


@dataclass(frozen=True)
class Tick:
    """Means of one tick by name; None where a mean was not finite."""

    kimg: float
    means: Mapping[str, float | None]

    def below(self, prefix: str) -> dict[str, float | None]:
        """Return the means whose names begin with ``prefix``, by the rest of their names."""
        return {name.removeprefix(prefix): value for name, value in self.means.items() if name.startswith(prefix)}


@dataclass
class History:
    """The history of a run, whose size does not grow with its length, except for the scores."""

    total_kimg: float
    has_leaky_augmentation: bool
    """Whether the augmentation has transforms that leak into samples if they are frequent."""
    is_adaptive: bool
    max_p: float | None
    ticks: deque[Tick] = field(default_factory=lambda: deque(maxlen=WINDOW_TICKS))
    measured: dict[str, list[float]] = field(default_factory=dict)
    """The last two values of each of `MEASUREMENTS`."""
    highest_diversity: float = 0.0
    """Highest diversity so far, at most 1: samples of untrained networks differ more than images do."""
    scores: list[tuple[float, float]] = field(default_factory=list)
    """(kimg, value) of the score by which snapshots are compared."""
    score: str = ""
    """Name of that score."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> History:
        """Begin the history of a run from the arguments of the training loop."""
        augment = options.get("augment_kwargs")
        class_name = augment.get("class_name") if isinstance(augment, Mapping) else None
        return cls(
            total_kimg=finite(options.get("total_kimg")) or 0.0,
            has_leaky_augmentation=class_name == AUGMENTATION,
            is_adaptive=finite(options.get("ada_target")) is not None,
            max_p=finite(options.get("ada_max_p")),
        )

    @property
    def kimg(self) -> float:
        """Thousands of images seen at the last tick."""
        return self.ticks[-1].kimg if self.ticks else 0.0

    def add_tick(self, statistics: Mapping[str, Any]) -> None:
        """Add a line of ``stats.jsonl``; entries that are not statistics are skipped."""
        means = {
            name: finite(entry.get("mean"))
            for name, entry in statistics.items()
            if isinstance(entry, Mapping)
            and entry.get("num")
            and isinstance(entry.get("mean"), (int, float, type(None)))
        }
        self.ticks.append(Tick(means.get("Progress/kimg") or self.kimg, means))
        self.add_measurements({name: value for name, value in means.items() if not self._is_repeated(name, value)})

    def _is_repeated(self, name: str, value: float | None) -> bool:
        """Return whether a statistic of a tick is that of the last sample grid: it is repeated until the next one."""
        last = self.measured.get(name, [])[-1:]
        return bool(last) and value is not None and math.isclose(last[0], value, rel_tol=1e-6)  # in float32

    def add_measurements(self, measured: Mapping[str, float | None]) -> None:
        """Add what was measured on a new sample grid."""
        for name in MEASUREMENTS:
            value = measured.get(name)
            if value is not None:
                self.measured[name] = [*self.measured.get(name, [])[-1:], value]
        newest = self.measured.get(DIVERSITY, [0.0])[-1]
        self.highest_diversity = max(self.highest_diversity, min(newest, 1.0))

    def add_score(self, kimg: float, name: str, value: float) -> None:
        """Add a value of the score by which snapshots are compared."""
        self.score = name
        self.scores.append((kimg, value))
