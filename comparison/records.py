"""Reads the records of runs, each number with the file and line that it comes from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from comparison.snapshots import TICKS_PER_SNAPSHOT
from metrics.results import Record, read_snapshot_results, results_file
from training.run.names import snapshot_kimg
from training.run.stats_file import STATS_FILE, Series, read_series, read_ticks


@dataclass(frozen=True)
class StatsLine:
    """A line of ``stats.jsonl``."""

    number: int
    kimg: float
    train_sec: float
    """Training time since the beginning, without metrics and snapshots."""
    memory_gib: float
    source: str


@dataclass(frozen=True)
class Point:
    """A score of one snapshot."""

    kimg: float
    train_sec: float
    value: float
    source: str


@dataclass
class ScoredRun:
    """Everything the page says of one run."""

    seed: int
    folder: Path
    """The folder that ``train.py`` made."""
    ticks: list[StatsLine] = field(default_factory=list)
    scores: dict[str, list[Point]] = field(default_factory=dict)
    """Scores by name, in order of images seen."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Why metrics have no value for the last snapshot that they were computed of."""
    related: set[str] = field(default_factory=set)
    """Scores in features of a network related to the pretrained backbone of D."""
    pretrained: set[str] = field(default_factory=set)
    """Names of the pretrained backbones of D."""
    conditions: dict[str, set[str]] = field(default_factory=dict)
    """Conditions under which each score was computed, in words, by the name of the score."""

    @property
    def sec_per_kimg(self) -> float:
        """Training time by images seen, over the whole run."""
        return self.ticks[-1].train_sec / self.ticks[-1].kimg

    @cached_property
    def series(self) -> dict[str, Series]:
        """Statistics by name, read when they are asked for."""
        return read_series(self.folder)


RunValue = Callable[[ScoredRun], "tuple[float, str] | None"]
"""Finds a number of a run and where it stands; None if the run does not have it."""


def read_run(seed: int, run_dir: Path, root: Path, metrics: list[str]) -> ScoredRun:
    """Read the records of a run; sources are named relative to ``root``."""
    records = ScoredRun(seed, run_dir, _read_ticks(run_dir, root))
    for metric in metrics:
        _read_scores(records, metric, root)
    return records


def _read_ticks(run_dir: Path, root: Path) -> list[StatsLine]:
    file = (run_dir / STATS_FILE).relative_to(root)
    ticks: list[StatsLine] = []
    train_sec = 0.0
    for tick in read_ticks(run_dir):
        number, sec = tick.mean("Progress/tick"), tick.mean("Timing/sec_per_tick")
        if number is None or sec is None or tick.kimg <= 0:
            continue
        train_sec += sec
        memory_gib = tick.mean("Resources/peak_gpu_mem_gb") or tick.mean("Resources/cpu_mem_gb") or 0.0
        ticks.append(StatsLine(round(number), tick.kimg, train_sec, memory_gib, f"{file}:{tick.number}"))
    return ticks


def _read_scores(records: ScoredRun, metric: str, root: Path) -> None:
    path = results_file(records.folder, metric)
    by_kimg = {snapshot_kimg(name) or 0.0: record for name, record in read_snapshot_results(path).items()}
    by_kimg.pop(0.0, None)  # after the first iteration there is nothing to score, and other files are none of the run's
    scores: dict[str, list[Point]] = {}
    for kimg, record in sorted(by_kimg.items()):
        _read_marks(records, record)
        tick = _tick_of(records.ticks, kimg)
        for name, value in record.values.items():
            if tick is not None:
                point = Point(tick.kimg, tick.train_sec, value, f"{path.relative_to(root)}:{record.number}")
                scores.setdefault(name, []).append(point)
    records.scores.update(scores)
    if by_kimg:
        last_kimg, last = max(by_kimg.items())
        reason = last.protocol.get("reason")
        if metric not in last.values and isinstance(reason, str):
            records.reasons[metric] = f"after {last_kimg:g} kimg: {reason}"


def _read_marks(records: ScoredRun, record: Record) -> None:
    protocol = record.protocol
    if protocol.get("related_pretrained_D") is True:
        records.related.update(record.values)
    network = protocol.get("pretrained_D")
    if isinstance(network, str) and network not in ("none", "unknown"):
        records.pretrained.add(network)
    if protocol:
        words = f"{protocol.get('num_real')} real images of checksum {str(protocol.get('real_fingerprint'))[:8]}"
        for name in record.values:
            records.conditions.setdefault(name, set()).add(f"{words}, seed {protocol.get('seed')}")


def _tick_of(ticks: list[StatsLine], kimg: float) -> StatsLine | None:
    """Find the tick that ended with a snapshot; its name has the images seen in thousands, usually rounded down."""
    candidates = [tick for tick in ticks if kimg <= tick.kimg + 1e-6 < math.floor(kimg) + 1]
    due = [tick for tick in candidates if tick.number % TICKS_PER_SNAPSHOT == 0]
    return next(iter(due or candidates), None)
