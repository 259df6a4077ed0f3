"""The tables of a comparison, which ``comparison.html`` and ``comparison.md`` both show."""

from __future__ import annotations

from dataclasses import dataclass

from comparison.logits import logit_gaps
from comparison.records import RunValue
from comparison.run_values import (
    at_kimg,
    at_sec,
    best,
    last,
    mean_statistic,
    peak_memory_gib,
    sec_per_kimg,
    second_half,
)
from comparison.summary import Cell, Comparison, MethodResult
from dnnlib.formatting import format_number, format_time
from metrics.direction import is_higher_better
from training.run.health.history import DIVERSITY

SCORE_COLUMNS = ("mean of second half", "at equal images", "at equal time", "best snapshot", "last snapshot")
SECOND_HALF, AT_EQUAL_IMAGES, AT_EQUAL_TIME, BEST, LAST = SCORE_COLUMNS


@dataclass(frozen=True)
class Column:
    """A column of numbers."""

    name: str
    long_name: str = ""
    """The name with the numbers of this comparison, if it has any."""
    note: str = ""
    """What a cell that stands alone must add to its number."""
    is_timing: bool = False
    """Whether the numbers depend on how fast the machine was."""


@dataclass(frozen=True)
class Row:
    """The numbers of a method."""

    result: MethodResult
    cells: list[Cell]
    num_seeds: int | None = None
    """How many seeds have the score of the table; None in other tables."""


@dataclass(frozen=True)
class Table:
    """A row for each method."""

    caption: str
    columns: list[Column]
    rows: list[Row]

    def column(self, name: str) -> list[Cell]:
        """Return the cells of a column, method by method."""
        i = [column.name for column in self.columns].index(name)
        return [row.cells[i] for row in self.rows]


@dataclass(frozen=True)
class Tables:
    """All tables of a comparison."""

    scores: dict[str, Table]
    """By the names of the scores; the columns are some of `SCORE_COLUMNS`."""
    cost: Table
    gaps: Table | None
    diversity: Table | None


def make_tables(comparison: Comparison) -> Tables:
    """Compute all tables, leaving out those of which no run has recorded anything."""
    kimg = comparison.common_kimg(comparison.scores[0]) if comparison.scores else None
    return Tables(
        scores={score: _scores(comparison, score) for score in comparison.scores},
        cost=_cost(comparison),
        gaps=None if kimg is None else _gaps(comparison, kimg),
        diversity=None if kimg is None else _diversity(comparison, kimg),
    )


def _scores(comparison: Comparison, score: str) -> Table:
    columns = _score_columns(comparison, score)
    rows = [
        Row(result, [result.cell(value) for _column, value in columns], len(result.points(score)))
        for result in comparison.methods
    ]
    return Table(f"{score}, {_direction(score)}", [column for column, _value in columns], rows)


def _direction(score: str) -> str:
    direction = is_higher_better(score)
    return "neither good nor bad" if direction is None else f"{'higher' if direction else 'lower'} is better"


def _score_columns(comparison: Comparison, score: str) -> list[tuple[Column, RunValue]]:
    kimg, sec = comparison.common_kimg(score), comparison.common_sec(score)
    assert kimg is not None
    assert sec is not None
    shown_kimg = f"{format_number(kimg)} kimg"
    at_images = (Column(AT_EQUAL_IMAGES, f"at {shown_kimg}", shown_kimg), at_kimg(score, kimg))
    if not comparison.is_curve(score):
        return [at_images]
    return [
        (Column(SECOND_HALF, f"mean {_second_half_of(kimg)}"), second_half(comparison, score)),
        at_images,
        (Column(AT_EQUAL_TIME, note=format_time(sec), is_timing=True), at_sec(score, sec)),
        (Column(BEST), best(score)),
        (Column(LAST), last(score)),
    ]


def _second_half_of(kimg: float) -> str:
    return f"from {format_number(kimg / 2)} to {format_number(kimg)} kimg"


def _cost(comparison: Comparison) -> Table:
    columns = [
        Column("s/kimg", "seconds per thousand images", is_timing=True),
        Column("largest GiB", "largest memory, GiB", is_timing=True),
    ]
    rows = [Row(each, [each.cell(sec_per_kimg), each.cell(peak_memory_gib)]) for each in comparison.methods]
    caption = "Training alone; memory of the GPU if there is one, else of the process at the ends of ticks"
    return Table(caption, columns, rows)


def _gaps(comparison: Comparison, kimg: float) -> Table | None:
    """Tabulate how far logits of real and generated images lie apart at each height in the second half of training."""
    found = [logit_gaps(result, kimg) for result in comparison.methods]
    heights = sorted({h for gaps in found for h in gaps})
    rows = [
        Row(result, [gaps.get(h, Cell(())) for h in heights])
        for result, gaps in zip(comparison.methods, found, strict=True)
    ]
    caption = f"Mean logits of real images minus those of generated ones, {_second_half_of(kimg)}"
    return _unless_empty(Table(caption, [Column(f"height {h}") for h in heights], rows))


def _diversity(comparison: Comparison, kimg: float) -> Table | None:
    """Tabulate how different samples are (`training.run.health.samples`), over the second half of training."""
    rows = [Row(result, [result.cell(mean_statistic(DIVERSITY, kimg))]) for result in comparison.methods]
    caption = (
        "Median distance of a sample from its nearest neighbor, relative to that of real images, "
        f"{_second_half_of(kimg)}"
    )
    return _unless_empty(Table(caption, [Column("diversity")], rows))


def _unless_empty(table: Table) -> Table | None:
    return table if any(cell.values for row in table.rows for cell in row.cells) else None
