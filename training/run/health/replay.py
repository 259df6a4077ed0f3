"""The monitor of a run that has already trained, from its files."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metrics.direction import is_higher_better
from metrics.results import Record, read_results, read_snapshot_results, results_file, results_files
from training.run.health.monitor import Monitor
from training.run.names import snapshot_kimg
from training.run.stats_file import read_ticks

CONDITIONS = ("real_fingerprint", "num_real", "seed", "object_detector")
"""Entries of 'protocol' in ``metric-*.jsonl`` that must agree for two scores of a run to be comparable.

They may differ because ``--continue`` accepts other images for the metrics.
"""


def replay(run_dir: Path, options: Mapping[str, Any]) -> Monitor:
    """Construct the monitor of a run from what it has logged so far.

    Args:
        run_dir: Run folder.
        options: Arguments of the training loop.
    """
    monitor, scores = Monitor(options), deque(_read_first_scores(run_dir, options))
    for tick in read_ticks(run_dir):
        monitor.add_tick(tick.line)
        while scores and scores[0][0] <= monitor.history.kimg:  # a score follows its tick
            monitor.add_score(*scores.popleft())
    for score in scores:
        monitor.add_score(*score)
    return monitor


def _read_first_scores(run_dir: Path, options: Mapping[str, Any]) -> Iterator[tuple[float, str, float]]:
    """Yield thousands of images seen, name and value of the score by which snapshots are compared, in order."""
    metrics = options.get("metrics")
    if isinstance(metrics, (list, tuple)) and metrics and isinstance(metrics[0], str):
        records = _read_records(results_file(run_dir, metrics[0]))
        for kimg, record in records:
            first = first_score(record.values)
            if first is not None and _conditions(record) == _conditions(records[-1][1]):
                yield kimg, *first


def first_score(results: Mapping[str, float]) -> tuple[str, float] | None:
    """Return the name and value of the score by which snapshots are compared: the first that has a direction.

    None if there is none, or if it is not finite.
    """
    first = next((item for item in results.items() if is_higher_better(item[0]) is not None), None)
    return first if first is not None and math.isfinite(first[1]) else None


def read_scores(path: Path) -> Iterator[tuple[float, dict[str, float]]]:
    """Yield the thousands of images in the name of each snapshot and its scores, the oldest snapshot first."""
    yield from ((kimg, record.values) for kimg, record in _read_records(path))


def _read_records(path: Path) -> list[tuple[float, Record]]:
    records = read_snapshot_results(path).items()
    return sorted((kimg, record) for name, record in records if (kimg := snapshot_kimg(name)) is not None)


def _conditions(record: Record) -> dict[str, Any]:
    """Return the `CONDITIONS` of a record; empty for records of older runs."""
    return {name: record.protocol[name] for name in CONDITIONS if name in record.protocol}


def read_conditions(run_dir: Path, score: str, value: float, snapshot: Path) -> dict[str, Any]:
    """Return the `CONDITIONS` under which a snapshot got a value of a score; empty if there is no such record."""
    records = (record for path in results_files(run_dir) for record in read_results(path))
    found = (each for each in records if each.snapshot == snapshot.name and each.values.get(score) == value)
    return next(map(_conditions, found), {})
