"""Verdicts on the differences between methods, in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from comparison.run_values import second_half
from comparison.statistics import Spread, difference, ratio_std_error
from comparison.summary import Cell, Comparison
from dnnlib.formatting import format_number
from metrics.direction import is_higher_better


def verdicts(comparison: Comparison, score: str) -> Iterator[str]:
    """Yield a sentence for each method after the first, which the others are compared with.

    What is compared are means over the second half of the snapshots, at equal images.
    """
    if comparison.common_kimg(score) is None or len(comparison.methods) < 2 or is_higher_better(score) is None:
        return
    first, *others = [(each.method.label, each.cell(second_half(comparison, score))) for each in comparison.methods]
    yield from _computed_otherwise(comparison, score)
    for name, cell in others:
        yield f"{name} and {first[0]}: {_verdict(first[1], cell, bool(is_higher_better(score)))}"


def _computed_otherwise(comparison: Comparison, score: str) -> Iterator[str]:
    """Name the runs with numbers that were computed in another way than most, by hand for example."""
    runs = [(result.method.label, run) for result in comparison.methods for run in result.runs]
    by_condition = Counter(words for _label, run in runs for words in run.conditions.get(score, ()))
    for words, _num in by_condition.most_common()[1:]:
        names = [f"{label} seed {run.seed}" for label, run in runs if words in run.conditions.get(score, ())]
        yield f"not computed as the others were, so that differences mislead: {', '.join(names)} (by {words})"


def _verdict(first: Cell, other: Cell, is_higher: bool) -> str:
    a, b = first.spread, other.spread
    if a is None or b is None:
        return "no scores to compare yet."
    has_ratio = a.mean > 0 < b.mean
    if (found := difference(a, b)) is None:
        ratio = f", a ratio of {format_number(b.mean / a.mean, 3)}" if has_ratio else ""
        unknown = f"with {_too_few(a, b)} it is unknown how seeds scatter"
        return f"the difference is {_signed(b.mean - a.mean)}{ratio}; {unknown}."
    low, high = found.mean - found.half_width, found.mean + found.half_width
    ratio = ""
    if has_ratio:
        ratio = f", their ratio {format_number(b.mean / a.mean, 3)} ({format_number(ratio_std_error(a, b), 2)})"
    text = (
        f"the difference of means is {_signed(found.mean)} (standard error {format_number(found.std_error, 3)})"
        f"{ratio}; the 95 % interval of the difference by Welch's method reaches from {format_number(low)} to "
        f"{format_number(high)}"
    )
    if found.is_clear:
        better = "better" if (found.mean > 0) == is_higher else "worse"
        return f"{text}. It excludes zero: {better}, beyond the variation between seeds."
    needed = "more than a thousand seeds" if found.num_needed is None else f"about {found.num_needed} seeds per method"
    return f"{text}. It contains zero: nothing is established. A difference and deviations like these need {needed}."


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else ''}{format_number(value)}"


def _too_few(a: Spread, b: Spread) -> str:
    return "one seed each" if a.num == b.num == 1 else "one seed of a method"
