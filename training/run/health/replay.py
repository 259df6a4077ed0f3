"""The monitor of a run that has already trained, from its files."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dnnlib.jsonl import finite, read_lines
from metrics.direction import is_higher_better
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
        records = list(_read_records(run_dir / f"metric-{metrics[0]}.jsonl"))
        for kimg, record in records:
            first = first_score(_scores(record))
            if first is not None and conditions(record) == conditions(records[-1][1]):
                yield kimg, *first


def first_score(results: Mapping[str, float]) -> tuple[str, float] | None:
    """Return the name and value of the score by which snapshots are compared: the first that has a direction."""
    return next((item for item in results.items() if is_higher_better(item[0]) is not None), None)


def read_scores(path: Path) -> Iterator[tuple[float, dict[str, float]]]:
    """Yield thousands of images seen, as its name tells, and the scores of each snapshot, the oldest snapshot first.

    Of several records of a snapshot the first counts: later ones may compare it with other images than training did.
    """
    yield from ((kimg, _scores(record)) for kimg, record in _read_records(path))


def _read_records(path: Path) -> Iterator[tuple[float, dict[str, Any]]]:
    found: dict[float, dict[str, Any]] = {}
    for _number, record in read_lines(path):
        name = record.get("snapshot_pkl")
        kimg = snapshot_kimg(name) if isinstance(name, str) else None
        if kimg is not None and isinstance(record.get("results"), dict):
            found.setdefault(kimg, record)
    yield from sorted(found.items())


def _scores(record: Mapping[str, Any]) -> dict[str, float]:
    return {key: score for key, value in record["results"].items() if (score := finite(value)) is not None}


def conditions(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `CONDITIONS` of a record in ``metric-*.jsonl``; empty for records of older runs."""
    protocol = record.get("protocol")
    return {name: protocol[name] for name in CONDITIONS if name in protocol} if isinstance(protocol, dict) else {}


def read_conditions(run_dir: Path, score: str, snapshot: Path) -> dict[str, Any]:
    """Return the `conditions` of the newest record of a score of a snapshot; empty if there is none."""
    found: dict[str, Any] = {}
    for path in run_dir.glob("metric-*.jsonl"):
        for _number, record in read_lines(path):
            results = record.get("results")
            if record.get("snapshot_pkl") == snapshot.name and isinstance(results, dict) and score in results:
                found = conditions(record)
    return found
