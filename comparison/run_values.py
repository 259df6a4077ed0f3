"""Numbers of a run, each with its record: scores at equal images and at equal time, means, the best, the cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from comparison.records import Point, RunValue, ScoredRun
from comparison.statistics import value_at
from comparison.summary import Comparison
from metrics.direction import is_higher_better
from training.run.stats_file import SAME_KIMG, Series


def at_kimg(score: str, kimg: float) -> RunValue:
    """Return a score after a number of images, interpolated between the snapshots before and after."""
    return lambda run: _interpolated(run.scores.get(score, []), kimg, lambda point: point.kimg)


def at_sec(score: str, sec: float) -> RunValue:
    """Return a score after a training time, interpolated likewise."""
    return lambda run: _interpolated(run.scores.get(score, []), sec, lambda point: point.train_sec)


def _interpolated(points: Sequence[Point], x: float, axis: Callable[[Point], float]) -> tuple[float, str] | None:
    xs = [axis(point) for point in points]
    value = value_at(x, xs, [point.value for point in points])
    if value is None:
        return None
    after = next((i for i, each in enumerate(xs) if each >= x - 1e-9), len(xs) - 1)
    used = points[after : after + 1] if abs(xs[after] - x) < 1e-9 else points[max(after - 1, 0) : after + 1]
    return value, " and ".join(point.source for point in used)


def second_half(comparison: Comparison, score: str) -> RunValue:
    """Return the mean over the snapshots of the second half that all runs have: a single one is a noisy estimate."""
    common = comparison.common_snapshots(score)

    def find(run: ScoredRun) -> tuple[float, str] | None:
        points = [
            point
            for point in run.scores.get(score, [])
            if any(comparison.is_same_snapshot(point.kimg, kimg) for kimg in common)
        ]
        if not points:
            return None
        return sum(point.value for point in points) / len(points), " and ".join(point.source for point in points)

    return find


def mean_statistic(name: str, kimg: float) -> RunValue:
    """Return the mean of a statistic in ``stats.jsonl`` from kimg / 2 to kimg; shorter runs have none."""
    return lambda run: mean_of_series(run, run.series.get(name), kimg)


def mean_of_series(run: ScoredRun, series: Series | None, kimg: float) -> tuple[float, str] | None:
    """Return the mean from kimg / 2 to kimg, and its lines; None for a shorter run, or without values there."""
    if series is None or run.ticks[-1].kimg < kimg - SAME_KIMG:
        return None
    half = series.between(kimg / 2, kimg)
    if len(half.mean) == 0:
        return None
    file, _, _line = run.ticks[-1].source.rpartition(":")
    return float(half.mean.mean()), f"{file}:{half.number[0]} to {half.number[-1]}"


def best(score: str) -> RunValue:
    """Return the best score of all snapshots."""
    sign = -1 if is_higher_better(score) else 1

    def find(run: ScoredRun) -> tuple[float, str] | None:
        points = run.scores.get(score)
        if not points or is_higher_better(score) is None:
            return None
        point = min(points, key=lambda each: sign * each.value)
        return point.value, point.source

    return find


def last(score: str) -> RunValue:
    """Return the score of the last snapshot."""

    def find(run: ScoredRun) -> tuple[float, str] | None:
        points = run.scores.get(score)
        return (points[-1].value, points[-1].source) if points else None

    return find


def sec_per_kimg(run: ScoredRun) -> tuple[float, str] | None:
    """Return the cost of a run that has a score: the first iterations of a run say little of its cost."""
    if not run.scores:
        return None
    return run.sec_per_kimg, f"{run.ticks[0].source} to {run.ticks[-1].source.rpartition(':')[2]}"


def peak_memory_gib(run: ScoredRun) -> tuple[float, str] | None:
    """Return the largest memory that a run with a score reported."""
    if not run.scores:
        return None
    tick = max(run.ticks, key=lambda each: each.memory_gib)
    return tick.memory_gib, tick.source
