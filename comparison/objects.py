"""Distances and numbers of objects by category: figure 1 of the supplement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from comparison.elements import number_cell, section
from comparison.summary import Cell, Comparison, MethodResult
from comparison.tables import AT_EQUAL_IMAGES, Table
from metrics.direction import is_higher_better
from training.run.page.charts import NUM_COLORS
from training.run.page.html import Html, table, tag

INTRODUCTION = (
    "As figure 1 of the supplement: distances between the real and the generated objects of a category, which one "
    "detector found in both, after as many images as all runs have seen. Counts of objects stand with them, since a "
    "generator that paints few objects can paint those well."
)


def is_object_score(score: str) -> bool:
    """Return whether a score concerns objects of a category."""
    return score.startswith(("okd", "ofd", "objects"))


def objects_section(comparison: Comparison, tables: Mapping[str, Table]) -> Html | None:
    """Return tables with a row for each category; None without scores of objects."""
    scores = [score for score in comparison.scores if is_object_score(score)]
    if not scores:
        return None
    parts = [tag("p", INTRODUCTION)]
    for kind in dict.fromkeys(score.partition("_")[0] for score in scores):
        found = {score: tables[score].column(AT_EQUAL_IMAGES) for score in scores if score.startswith(kind)}
        distances = {score: cells for score, cells in found.items() if is_higher_better(score) is False}
        counts = {score: cells for score, cells in found.items() if is_higher_better(score) is None}
        parts += [*_distances(comparison.methods, kind, distances), *_counts(comparison.methods, counts)]
    return section("Objects by category", *parts)


def _distances(methods: Sequence[MethodResult], kind: str, found: Mapping[str, list[Cell]]) -> Iterator[Html]:
    means = [cell.spread.mean for cells in found.values() for cell in cells if cell.spread is not None]
    longest = max(means, default=0)
    if longest > 0:
        header = ["score", *(result.name for result in methods)]
        rows = [
            [score, *(_bar(color, *each, longest) for color, each in enumerate(zip(methods, cells, strict=True)))]
            for score, cells in found.items()
        ]
        yield table(header, rows, f"{kind}, lower is better; the bars of this table are drawn to one scale")


def _bar(color: int, result: MethodResult, cell: Cell, longest: float) -> Html:
    if cell.spread is None:
        return tag("td", "-")
    width = max(100 * cell.spread.mean / longest, 0)
    rect = tag("rect", width=f"{width:.1f}%", height="100%")
    bar = tag("svg", rect, class_=f"bar color-{color % NUM_COLORS}", aria_hidden="true")
    return number_cell(result, cell, bar=bar)


def _counts(methods: Sequence[MethodResult], found: Mapping[str, list[Cell]]) -> Iterator[Html]:
    if found:
        rows = [[score, *map(number_cell, methods, cells)] for score, cells in found.items()]
        yield table(["value", *(result.name for result in methods)], rows, "Objects per image")
