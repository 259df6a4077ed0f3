"""Types of command-line options: lists of numbers or names, and finite numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click

MAX_SEED = 2**32 - 1
"""Largest seed of NumPy's ``RandomState``."""
MAX_NUMBERS = 1_000_000
"""Length limit of a list of numbers: a range such as 0-4294967295 would exhaust the memory."""
MAX_DIGITS = 100
"""Python refuses to parse numbers with thousands of digits."""


class NumberList(click.ParamType):
    """Comma-separated whole numbers and ranges: ``0-35`` or ``1,2,3`` or ``0,5-9``.

    Args:
        largest: Largest allowed number.
    """

    name = "LIST"

    def __init__(self, largest: int) -> None:
        self.largest = largest

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """Return the numbers in the given order."""
        if not isinstance(value, str):
            return list(value)
        numbers: list[int] = []
        for part in value.split(","):
            first, dash, last = (text.strip() for text in part.partition("-"))
            if not (first.isdecimal() and (last.isdecimal() or not dash)):
                self.fail(f"{value[:100]!a}: give numbers such as 0-35 or 1,2,3", param, ctx)
            too_long = max(len(first), len(last)) > MAX_DIGITS
            low, high = (0, -1) if too_long else (int(first), int(last or first))
            if not low <= high <= self.largest:
                self.fail(f"{part.strip()[:100]}: give 0 to {self.largest}, the smaller one first", param, ctx)
            if len(numbers) + high - low >= MAX_NUMBERS:
                self.fail(f"give at most {MAX_NUMBERS} numbers", param, ctx)
            numbers += range(low, high + 1)
        return numbers


class NameList(click.ParamType):
    """Comma-separated names out of a fixed set; blanks around them are ignored, and repetitions dropped.

    Args:
        known: Returns the allowed names.
        is_known: Whether a name is allowed. Default: it is one of ``known``.
    """

    name = "LIST"

    def __init__(self, known: Callable[[], list[str]], is_known: Callable[[str], bool] | None = None) -> None:
        self.known = known
        self.is_known = is_known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """Split the list and refuse unknown names."""
        names = [name.strip() for name in value.split(",")] if isinstance(value, str) else list(value)
        known = self.known()
        is_known = self.is_known or known.__contains__
        unknown = [ascii(name[:100]) for name in names if not is_known(name)]
        if unknown:
            self.fail(f"{', '.join(unknown)}: choose from {', '.join(known)}", param, ctx)
        return list(dict.fromkeys(names))


class FiniteFloat(click.ParamType):
    """A floating-point number that is neither infinite nor NaN."""

    name = "FLOAT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number: float = click.FLOAT.convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value}: give a finite number", param, ctx)
        return number


class FiniteRange(click.FloatRange):
    """A range of floating-point numbers, as click has it, without NaN and infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number: float = super().convert(FiniteFloat().convert(value, param, ctx), param, ctx)
        return number
