"""The monitor of a run that has already trained, from its files."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metrics.direction import is_higher_better
from training.run.health.monitor import Monitor
from training.run.jsonl import finite, read_lines
from training.run.names import snapshot_kimg


def replay(run_dir: Path, options: Mapping[str, Any]) -> Monitor:
    """Read what a run has logged so far.

    Args:
        run_dir: Run folder.
        options: Arguments of the training loop.
    """
    monitor, scores = Monitor(options), deque(_read_first_scores(run_dir, options))
    for _number, line in read_lines(run_dir / "stats.jsonl"):
        monitor.add_tick(line)
        while scores and scores[0][0] <= monitor.history.kimg:  # each is judged at the tick after which it was found
            monitor.add_score(*scores.popleft())
    for score in scores:
        monitor.add_score(*score)
    return monitor


def _read_first_scores(run_dir: Path, options: Mapping[str, Any]) -> Iterator[tuple[float, str, float]]:
    """Yield thousands of images seen, name and value of the score by which snapshots are compared, in order."""
    metrics = options.get("metrics")
    if isinstance(metrics, (list, tuple)) and metrics and isinstance(metrics[0], str):
        for kimg, results in read_scores(run_dir / f"metric-{metrics[0]}.jsonl"):
            first = first_score(results)
            if first is not None:
                yield kimg, *first


def first_score(results: Mapping[str, float]) -> tuple[str, float] | None:
    """Return name and value of the first score that is better one way or the other: snapshots are compared by it."""
    return next((item for item in results.items() if is_higher_better(item[0]) is not None), None)


def read_scores(path: Path) -> Iterator[tuple[float, dict[str, float]]]:
    """Yield thousands of images seen, as its name tells, and the scores of each snapshot, the oldest snapshot first.

    Of several records of a snapshot the first counts: later ones may compare it with other images than training did.
    """
    found: dict[float, dict[str, float]] = {}
    for _number, record in read_lines(path):
        name, results = record.get("snapshot_pkl"), record.get("results")
        kimg = snapshot_kimg(name) if isinstance(name, str) else None
        if kimg is not None and isinstance(results, dict):
            values = {key: score for key, value in results.items() if (score := finite(value)) is not None}
            found.setdefault(kimg, values)
    yield from sorted(found.items())
