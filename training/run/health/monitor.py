"""The health of a run: its history, and the signs that are on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.run.health.history import History
from training.run.health.signs import Sign, find_signs

LASTING_TICKS = 2
"""Ticks of divergence in a row after which ``--stop-on=divergence`` stops."""


class Monitor:
    """Reads the ticks, sample grids and scores of one run as they come, or from its files.

    Args:
        options: Arguments of the training loop.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.history = History.of(options)
        self.signs: list[Sign] = []
        """Those of the last tick."""
        self.seen: dict[str, tuple[float, float, Sign]] = {}
        """By kind: thousands of images seen when it was first and last on, and what was last said."""
        self._num_diverged = 0

    def add_tick(self, statistics: Mapping[str, Any]) -> list[Sign]:
        """Add a line of ``stats.jsonl``; returns the signs that were not on before."""
        self.history.add_tick(statistics)
        new = self._look()
        self._num_diverged = self._num_diverged + 1 if "divergence" in self.kinds() else 0
        return new

    def add_measurements(self, means: Mapping[str, float]) -> list[Sign]:
        """Add statistics of a sample grid; returns the signs that were not on before."""
        self.history.add_measurements(means)
        return self._look()

    def add_score(self, kimg: float, name: str, value: float) -> list[Sign]:
        """Add a value of the score by which snapshots are compared; returns the signs that were not on before."""
        self.history.add_score(kimg, name, value)
        return self._look()

    def _look(self) -> list[Sign]:
        before = self.kinds()
        self.signs = list(find_signs(self.history))
        kimg = self.history.kimg
        for sign in self.signs:
            first_kimg = self.seen[sign.kind][0] if sign.kind in self.seen else kimg
            self.seen[sign.kind] = (first_kimg, kimg, sign)
        return [sign for sign in self.signs if sign.kind not in before]

    def kinds(self) -> list[str]:
        """Return the kinds of the signs that are on."""
        return [sign.kind for sign in self.signs]

    @property
    def has_diverged(self) -> bool:
        """Whether training has diverged for good."""
        return self._num_diverged >= LASTING_TICKS

    def alarms(self) -> dict[str, dict[str, float]]:
        """Return the signs that are on in the form of statistics, for ``stats.jsonl``."""
        return {f"Health/alarm/{sign.kind}": {"num": 1, "mean": sign.value, "std": 0.0} for sign in self.signs}
