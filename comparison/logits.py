"""Logits of real and of generated images at each scale: figure 2 of the supplement, and its gaps in numbers."""

from __future__ import annotations

from collections.abc import Mapping

from comparison.records import RunValue, ScoredRun
from comparison.run_values import mean_of_series
from comparison.summary import Cell, MethodResult
from dnnlib.formatting import format_number
from training.run.heights import logit_heights, logits
from training.run.page.charts import Line, chart
from training.run.page.html import Html, tag
from training.run.stats_file import Series


def logit_gaps(result: MethodResult, kimg: float) -> dict[int, Cell]:
    """Return how far the mean logits of real images lie above those of generated ones, from kimg / 2 to kimg.

    Args:
        result: A method. Its runs that have seen fewer images, or have no logits, are left out.
        kimg: Thousands of real images.

    Returns:
        A number for each seed, by the height of the map of logits.
    """
    cells = {h: result.cell(_gap(h, kimg)) for h in logit_heights(name for run in result.runs for name in run.series)}
    return {h: cell for h, cell in cells.items() if cell.values}


def _gap(h: int, kimg: float) -> RunValue:
    def find(run: ScoredRun) -> tuple[float, str] | None:
        real, fake = (mean_of_series(run, logits(run.series, kind, h), kimg) for kind in ("real", "fake"))
        return None if real is None or fake is None else (real[0] - fake[0], real[1])

    return find


def logit_charts(result: MethodResult) -> Html | None:
    """Draw figure 2 of the supplement for the first seed of a method; None without logits."""
    if not result.runs:
        return None
    run = result.runs[0]
    charts = [drawn for h in logit_heights(run.series) if (drawn := _chart(run.series, h)) is not None]
    if not charts:
        return None
    title = f"{result.method.label}, seed {run.seed}"
    return tag("div", tag("h3", title), tag("div", *charts, class_="triple"))


def _chart(run: Mapping[str, Series], h: int) -> Html | None:
    lines = []
    for color, kind in enumerate(("real", "fake")):
        series = logits(run, kind, h)
        if series is not None:
            low, high = series.mean - series.std, series.mean + series.std
            x, y, bottom, top = (column.round(5).tolist() for column in (series.kimg, series.mean, low, high))
            lines.append(Line(kind, x, y, bottom, top, color))
    if not lines:
        return None
    summary = ", ".join(f"{line.label} ends at {format_number(line.y[-1], 3)}" for line in lines)
    return chart(f"Height {h}", "real images seen, thousands", "logits", lines, summary)
