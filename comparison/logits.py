"""What D says of real and of generated images at each scale: figure 2 of the supplement, and its gaps in numbers."""

from __future__ import annotations

from comparison.records import ScoredRun
from comparison.summary import Cell, Comparison, MethodResult, Value
from msconD.plots import Run
from training.run.page.charts import Line, chart
from training.run.page.html import Html, tag


def gaps_by_height(comparison: Comparison) -> tuple[str, list[str], list[tuple[MethodResult, list[Cell]]]]:
    """Return the table of the gaps over the second half of training: its caption, its header, and a row per method.

    There are no rows without scores, which say how many images all runs have seen, or without usable statistics.
    """
    kimg = comparison.common_kimg(comparison.scores[0]) if comparison.scores else None
    if kimg is None:
        return "", [], []
    gaps = {result.name: logit_gaps(result, kimg) for result in comparison.methods}
    heights = sorted({h for found in gaps.values() for h in found})
    if not heights:
        return "", [], []
    rows = [(result, [gaps[result.name].get(h, Cell(())) for h in heights]) for result in comparison.methods]
    caption = f"Mean logits of real images minus those of generated ones, from {kimg / 2:.4g} to {kimg:.4g} kimg"
    return caption, ["method", *(f"height {h}" for h in heights)], rows


def logit_gaps(result: MethodResult, kimg: float) -> dict[int, Cell]:
    """Return how far the mean logits of real images lie above those of generated ones, from kimg / 2 to kimg.

    Args:
        result: A method. Its runs that have not seen so many images, or whose records are damaged, are left out.
        kimg: Thousands of real images.

    Returns:
        A number for each seed, by the height of the map of logits.
    """
    values: dict[int, list[Value]] = {}
    for run in result.runs:
        if run.ticks[-1].kimg >= kimg - 1e-6 and (stats := _statistics(run)) is not None:
            ticks = [tick for tick in run.ticks if kimg / 2 - 1e-6 <= tick.kimg <= kimg + 1e-6]
            for h in _heights(stats) if ticks else ():
                if (gap := _gap(stats, h, kimg)) is not None:
                    source = f"{ticks[0].source} to {ticks[-1].source.rpartition(':')[2]}"
                    values.setdefault(h, []).append(Value(run.seed, gap, source))
    return {h: Cell(tuple(found)) for h, found in values.items()}


def _statistics(run: ScoredRun) -> Run | None:
    try:
        stats = Run(run.folder)
        for h in _heights(stats):
            for kind in ("real", "fake"):
                stats.logits(kind, h)  # which reads the lines
    except ValueError:  # a damaged line
        return None
    return stats


def _heights(stats: Run) -> list[int]:
    return sorted({1, *stats.scales("Loss/scores/real")})


def _gap(stats: Run, h: int, kimg: float) -> float | None:
    means = []
    for kind in ("real", "fake"):
        series = stats.logits(kind, h)
        if series is None:
            return None
        within = series.mean[(kimg / 2 - 1e-6 <= series.kimg) & (series.kimg <= kimg + 1e-6)]
        if len(within) == 0:
            return None
        means.append(float(within.mean()))
    return means[0] - means[1]


def logit_charts(result: MethodResult) -> Html | None:
    """Draw figure 2 of the supplement for the first seed of a method; None without usable records."""
    stats = _statistics(result.runs[0]) if result.runs else None
    if stats is None:
        return None
    title = f"{result.method.label}, seed {result.runs[0].seed}"
    return tag("div", tag("h3", title), tag("div", *(_chart(stats, h) for h in _heights(stats)), class_="triple"))


def _chart(stats: Run, h: int) -> Html | None:
    lines = []
    for color, kind in enumerate(("real", "fake")):
        series = stats.logits(kind, h)
        if series is not None:
            low, high = series.mean - series.std, series.mean + series.std
            x, y, bottom, top = (column.round(5).tolist() for column in (series.kimg, series.mean, low, high))
            lines.append(Line(kind, x, y, bottom, top, color))
    if not lines:
        return None
    summary = ", ".join(f"{line.label} ends at {line.y[-1]:.3g}" for line in lines)
    return chart(f"Height {h}", "real images seen, thousands", "logits", lines, summary)
