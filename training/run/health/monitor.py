"""The health of a run: its history, and the warnings that apply at the last tick."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.run.health.history import History
from training.run.health.signs import HealthWarning, find_warnings

LASTING_TICKS = 2
"""Ticks of divergence in a row after which ``--stop-on=divergence`` stops."""


class Monitor:
    """Reads the ticks, sample grids and scores of one run as they come, or from its files.

    Args:
        options: Arguments of the training loop.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.history = History.of(options)
        self.warnings: list[HealthWarning] = []
        """The warnings of the last tick."""
        self.seen: dict[str, tuple[float, float, HealthWarning]] = {}
        """Warnings by kind: thousands of images seen when it first and last applied, and its last text."""
        self._num_diverged = 0

    def add_tick(self, statistics: Mapping[str, Any]) -> list[HealthWarning]:
        """Add a line of ``stats.jsonl``; returns the new warnings."""
        self.history.add_tick(statistics)
        new = self._update()
        self._num_diverged = self._num_diverged + 1 if "divergence" in self.kinds() else 0
        return new

    def add_measurements(self, means: Mapping[str, float]) -> list[HealthWarning]:
        """Add statistics of a sample grid; returns the new warnings."""
        self.history.add_measurements(means)
        return self._update()

    def add_score(self, kimg: float, name: str, value: float) -> list[HealthWarning]:
        """Add a value of the score by which snapshots are compared; returns the new warnings."""
        self.history.add_score(kimg, name, value)
        return self._update()

    def _update(self) -> list[HealthWarning]:
        before = self.kinds()
        self.warnings = list(find_warnings(self.history))
        kimg = self.history.kimg
        for warning in self.warnings:
            first_kimg = self.seen[warning.kind][0] if warning.kind in self.seen else kimg
            self.seen[warning.kind] = (first_kimg, kimg, warning)
        return [warning for warning in self.warnings if warning.kind not in before]

    def kinds(self) -> list[str]:
        """Return the kinds of the current warnings."""
        return [warning.kind for warning in self.warnings]

    @property
    def has_diverged(self) -> bool:
        """Whether training has diverged for `LASTING_TICKS`."""
        return self._num_diverged >= LASTING_TICKS

    def alarms(self) -> dict[str, dict[str, float]]:
        """Return the current warnings as statistics, for ``stats.jsonl``."""
        return {f"Health/alarm/{each.kind}": {"num": 1, "mean": each.value, "std": 0.0} for each in self.warnings}
