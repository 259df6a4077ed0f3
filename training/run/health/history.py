"""What the signs are read from: the last ticks of a run, the samples it has drawn and its scores."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dnnlib.jsonl import finite

WINDOW_TICKS = 10
"""A state counts as lasting once it has held for so many ticks: ADA moves p by at most 0.08 in that many of 4 kimg."""
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
        """Return the means whose names begin with ``prefix``, without it."""
        return {name.removeprefix(prefix): value for name, value in self.means.items() if name.startswith(prefix)}


@dataclass
class History:
    """All that is remembered of a run; its size does not grow with the length of the run, except by scores."""

    total_kimg: float
    has_leaky_augmentation: bool
    """Whether images are augmented by transforms that can leak into samples when they are frequent."""
    is_adaptive: bool
    max_p: float | None
    ticks: deque[Tick] = field(default_factory=lambda: deque(maxlen=WINDOW_TICKS))
    measured: dict[str, list[float]] = field(default_factory=dict)
    """The last two values of each of `MEASUREMENTS`."""
    highest_diversity: float = 0.0
    """At most 1: untrained networks draw patterns that differ more than images do."""
    scores: list[tuple[float, float]] = field(default_factory=list)
    """(kimg, value) of the score by which snapshots are compared."""
    score: str = ""
    """Its name."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> History:
        """Begin the history of a run with these arguments of the training loop."""
        augment = options.get("augment_kwargs")
        class_name = augment.get("class_name") if isinstance(augment, Mapping) else None
        return cls(
            total_kimg=finite(options.get("total_kimg")) or 0.0,
            has_leaky_augmentation=class_name == "training.augment.AugmentPipe",
            is_adaptive=finite(options.get("ada_target")) is not None,
            max_p=finite(options.get("ada_max_p")),
        )

    @property
    def kimg(self) -> float:
        """Thousands of images seen at the last tick."""
        return self.ticks[-1].kimg if self.ticks else 0.0

    def add_tick(self, statistics: Mapping[str, Any]) -> None:
        """Add a line of ``stats.jsonl``; what is no statistic is passed over."""
        means = {
            name: finite(entry.get("mean"))
            for name, entry in statistics.items()
            if isinstance(entry, Mapping)
            and entry.get("num")
            and isinstance(entry.get("mean"), (int, float, type(None)))
        }
        self.ticks.append(Tick(means.get("Progress/kimg") or self.kimg, means))
        self.add_measurements(means)

    def add_measurements(self, means: Mapping[str, float | None]) -> None:
        """Add statistics of a sample grid; a repeated value is that of the grid before."""
        for name in MEASUREMENTS:
            value, before = means.get(name), self.measured.get(name, [])
            if value is not None and before[-1:] != [value]:
                self.measured[name] = [*before[-1:], value]
        newest = self.measured.get(DIVERSITY, [0.0])[-1]
        self.highest_diversity = max(self.highest_diversity, min(newest, 1.0))

    def add_score(self, kimg: float, name: str, value: float) -> None:
        """Add the value of the first score."""
        self.score = name
        self.scores.append((kimg, value))
