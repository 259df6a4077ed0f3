"""The two files that show a comparison: ``comparison.html`` and ``comparison.md``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from comparison.page import page
from comparison.plan import Plan
from comparison.summary import PLUS_MINUS, Comparison, collect
from comparison.tables import SCORE_COLUMNS, Row, Table, Tables, make_tables
from comparison.words import verdicts
from dnnlib.atomic import write_atomic

MARKDOWN_SPECIAL = str.maketrans({char: f"\\{char}" for char in "\\`*_{}[]<>#|~"})


def write_report(plan: Plan, failures: dict[Path, str]) -> list[Path]:
    """Write both files from the records in the folder of a comparison; returns their paths."""
    comparison = collect(plan, failures)
    tables = make_tables(comparison)
    texts = {"comparison.html": page(plan, comparison, tables), "comparison.md": markdown(comparison, tables)}
    for name, text in texts.items():
        write_atomic(plan.outdir / name, text.encode())
    return [plan.outdir / name for name in texts]


def markdown(comparison: Comparison, tables: Tables) -> str:
    """Return the table with a row for each score and method, what differences are worth, and the other tables."""
    header = ["score", "method", "seeds", *SCORE_COLUMNS, *(column.name for column in tables.cost.columns)]
    lines = _lines(header, _score_rows(tables))
    for score in comparison.scores:
        sentences = [f"- {_escaped(sentence)}" for sentence in verdicts(comparison, score)]
        if sentences:
            what = "means of the second half up to equal images" if comparison.is_curve(score) else "at equal images"
            lines += ["", f"{_escaped(score)}, {what}:", "", *sentences]
    states = [
        f"- {_escaped(f'{result.method.label}, seed {seed}: {state}')}"
        for result in comparison.methods
        for seed, state in result.states.items()
    ]
    for table in filter(None, [tables.gaps, tables.diversity]):
        header = ["method", *(column.name for column in table.columns)]
        rows = ([_escaped(row.result.name), *(cell.text for cell in row.cells)] for row in table.rows)
        lines += ["", f"{table.caption}:", "", *_lines(header, rows)]
    if states:
        lines += ["", "Not complete:", "", *states]
    lines += [
        "",
        rf"Mean {PLUS_MINUS} sample standard deviation over seeds. \* D has a pretrained backbone.",
        "",
    ]
    return "\n".join(lines)


def _lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def _score_rows(tables: Tables) -> Iterator[list[str]]:
    for score, table in tables.scores.items():
        for row, cost in zip(table.rows, tables.cost.rows, strict=True):
            cells = dict(_shown(table, row))
            yield [
                *(_escaped(score), _escaped(row.result.name), str(row.num_seeds)),
                *(cells.get(name, "-") for name in SCORE_COLUMNS),
                *(cell.text for cell in cost.cells),
            ]


def _shown(table: Table, row: Row) -> Iterator[tuple[str, str]]:
    """Yield the name of each column with its cell, and of how many seeds that is if it does not have all of them."""
    for column, cell in zip(table.columns, row.cells, strict=True):
        num = len(cell.values)
        seeds = "" if num in (0, row.num_seeds) else f" ({num} of {row.num_seeds} seeds)"
        yield column.name, cell.text + seeds + (f" ({column.note})" if column.note else "")


def _escaped(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text).translate(MARKDOWN_SPECIAL)
