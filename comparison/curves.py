"""Curves of scores over training, by images and by time."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from comparison.records import Point
from comparison.statistics import spread, value_at
from comparison.summary import Comparison, MethodResult
from dnnlib.formatting import format_number
from training.run.page.charts import Line, chart
from training.run.page.html import Html, tag

NUM_TIMES = 25


def score_charts(comparison: Comparison, score: str) -> Html:
    """Draw means over seeds, with bands of one deviation, by images seen and by training time."""
    lines = [_by_images(result, score, i) for i, result in enumerate(comparison.methods)]
    timed = [_by_time(result, score, i) for i, result in enumerate(comparison.methods)]
    ends = "; ".join(f"{line.label} ends at {format_number(line.y[-1])}" for line in lines if line is not None)
    by_images = chart(
        f"{score} by images seen", "real images seen, thousands", score, [line for line in lines if line], ends
    )
    by_time = chart(
        f"{score} by training time",
        "training time, minutes",
        score,
        [line for line in timed if line],
        "The same scores; the table above has them at equal time",
        is_timing=True,
    )
    return tag("div", by_images, by_time, class_="pair")


def _by_images(result: MethodResult, score: str, color: int) -> Line | None:
    runs = result.points(score)
    xs = sorted({round(point.kimg, 3) for points in runs for point in points})
    return _mean_line(result, runs, xs, color, lambda point: round(point.kimg, 3))


def _by_time(result: MethodResult, score: str, color: int) -> Line | None:
    runs = result.points(score)
    if not runs:
        return None
    first = max(points[0].train_sec for points in runs) / 60
    end = min(points[-1].train_sec for points in runs) / 60
    xs = [round(float(x), 3) for x in np.linspace(first, end, NUM_TIMES)] if end > first else [round(end, 3)]
    return _mean_line(result, runs, xs, color, lambda point: round(point.train_sec / 60, 3))


def _mean_line(
    result: MethodResult, runs: list[list[Point]], xs: list[float], color: int, axis: Callable[[Point], float]
) -> Line | None:
    """Average runs where all of them have a value."""
    rows: list[tuple[float, float, float]] = []
    for x in xs:
        values = [value_at(x, [axis(point) for point in points], [point.value for point in points]) for points in runs]
        known = [value for value in values if value is not None]
        if known and len(known) == len(runs):
            found = spread(known)
            rows.append((x, found.mean, found.std))
    if not rows:
        return None
    kept, mean, std = (list(column) for column in zip(*rows, strict=True))
    has_band = not math.isnan(std[0])
    return Line(
        result.name,
        kept,
        mean,
        [m - s for m, s in zip(mean, std, strict=True)] if has_band else (),
        [m + s for m, s in zip(mean, std, strict=True)] if has_band else (),
        color,
    )
