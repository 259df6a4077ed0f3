"""Reads the records of runs, each number with the file and line that it comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from comparison.snapshots import TICKS_PER_SNAPSHOT
from dnnlib.jsonl import finite, read_lines
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
    path = records.folder / f"metric-{metric}.jsonl"
    found: dict[str, dict[float, Point]] = {}
    reasons: dict[float, str | None] = {}
    for number, record in read_lines(path):
        snapshot, results = record.get("snapshot_pkl"), record.get("results")
        kimg = snapshot_kimg(snapshot) if isinstance(snapshot, str) else None
        if not kimg or not isinstance(results, dict):
            continue
        tick = _tick_of(records.ticks, kimg)
        protocol = record.get("protocol")
        _read_marks(records, list(results), protocol)
        reason = protocol.get("reason") if isinstance(protocol, dict) and results.get(metric) is None else None
        reasons[kimg] = f"after {kimg:g} kimg: {reason}" if isinstance(reason, str) else None
        for name, value in results.items():
            if (score := finite(value)) is not None and tick is not None:
                point = Point(tick.kimg, tick.train_sec, score, f"{path.relative_to(root)}:{number}")
                found.setdefault(name, {}).setdefault(kimg, point)
    if reasons and (reason := reasons[max(reasons)]) is not None:
        records.reasons[metric] = reason
    for name, points in found.items():
        records.scores[name] = [points[kimg] for kimg in sorted(points)]


def _read_marks(records: ScoredRun, names: list[str], protocol: Any) -> None:
    if not isinstance(protocol, dict):
        return
    if protocol.get("related_pretrained_D") is True:
        records.related.update(names)
    network = protocol.get("pretrained_D")
    if isinstance(network, str) and network not in ("none", "unknown"):
        records.pretrained.add(network)
    words = f"{protocol.get('num_real')} real images of checksum {str(protocol.get('real_fingerprint'))[:8]}"
    for name in names:
        records.conditions.setdefault(name, set()).add(f"{words}, seed {protocol.get('seed')}")


def _tick_of(ticks: list[StatsLine], kimg: float) -> StatsLine | None:
    """Find the tick that ended with a snapshot; its name tells the images seen, usually without the last thousand."""
    candidates = [tick for tick in ticks if kimg <= tick.kimg + 1e-6 < math.floor(kimg) + 1]
    due = [tick for tick in candidates if tick.number % TICKS_PER_SNAPSHOT == 0]
    return next(iter(due or candidates), None)
