"""The two files that show a comparison: ``comparison.html`` and ``comparison.md``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from comparison.diversity import diversity
from comparison.logits import gaps_by_height
from comparison.page import page
from comparison.plan import Plan
from comparison.summary import (
    PLUS_MINUS,
    Cell,
    Comparison,
    at_kimg,
    at_sec,
    best,
    collect,
    last,
    peak_memory_gib,
    sec_per_kimg,
    second_half,
)
from comparison.words import verdicts
from dnnlib.atomic import write_atomic
from dnnlib.util import format_time

MARKDOWN_SPECIAL = str.maketrans({char: f"\\{char}" for char in "\\`*_{}[]<>#|~"})


def write_report(plan: Plan, failures: dict[Path, str]) -> list[Path]:
    """Write both files from the records in the folder of a comparison; returns their paths."""
    comparison = collect(plan, failures)
    texts = {"comparison.html": page(plan, comparison), "comparison.md": markdown(comparison)}
    for name, text in texts.items():
        write_atomic(plan.outdir / name, text.encode())
    return [plan.outdir / name for name in texts]


def markdown(comparison: Comparison) -> str:
    """Return the table with a row for each score and method, and what differences are worth."""
    header = ["score", "method", "seeds", "mean of second half", "at equal images", "at equal time", "best snapshot"]
    header += ["last snapshot", "s/kimg", "largest GiB"]
    rows = [header, ["---"] * len(header), *_rows(comparison)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
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
    lines += _logit_gaps(comparison)
    lines += _diversity(comparison)
    if states:
        lines += ["", "Not complete:", "", *states]
    lines += [
        "",
        rf"Mean {PLUS_MINUS} sample standard deviation over seeds. \* D looks through a pretrained network.",
        "",
    ]
    return "\n".join(lines)


def _rows(comparison: Comparison) -> Iterator[list[str]]:
    for score in comparison.scores:
        kimg, sec = comparison.common_kimg(score), comparison.common_sec(score)
        assert kimg is not None
        assert sec is not None
        for result in comparison.methods:
            name, num_seeds = _escaped(result.name), len(result.points(score))
            at_images = f"{_shown(result.cell(at_kimg(score, kimg)), num_seeds)} ({kimg:.4g} kimg)"
            costs = [result.cell(value).text for value in (sec_per_kimg, peak_memory_gib)]
            second, at_time, *others = ["-"] * 4
            if comparison.is_curve(score):
                values = (second_half(comparison, score), at_sec(score, sec), best(score), last(score))
                second, at_time, *others = [_shown(result.cell(value), num_seeds) for value in values]
                at_time = f"{at_time} ({format_time(sec)})"
            yield [_escaped(score), name, str(num_seeds), second, at_images, at_time, *others, *costs]


def _shown(cell: Cell, num_seeds: int) -> str:
    """Write a cell, and of how many seeds it is if it does not have all of them."""
    num = len(cell.values)
    return cell.text if num in (0, num_seeds) else f"{cell.text} ({num} of {num_seeds} seeds)"


def _logit_gaps(comparison: Comparison) -> list[str]:
    caption, header, rows = gaps_by_height(comparison)
    if not rows:
        return []
    cells = [
        header,
        ["---"] * len(header),
        *([_escaped(result.name), *(cell.text for cell in found)] for result, found in rows),
    ]
    return ["", f"{caption}:", "", *(f"| {' | '.join(row)} |" for row in cells)]


def _diversity(comparison: Comparison) -> list[str]:
    caption, found = diversity(comparison)
    rows = [f"| {_escaped(result.name)} | {cell.text} |" for result, cell in found]
    return ["", f"{caption}:", "", "| method | diversity |", "| --- | --- |", *rows] if rows else []


def _escaped(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text).translate(MARKDOWN_SPECIAL)
