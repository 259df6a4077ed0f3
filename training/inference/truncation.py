"""The truncation that a command is asked for: one psi, or a range of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from dnnlib.click_types import FiniteFloat

DEFAULT_SWEEP, MAX_SWEEP = 7, 1000
"""Images per seed of a range of psi."""


@dataclass(frozen=True)
class Sweep:
    """Truncation psi from ``low`` to ``high``, in ``num`` steps of a grid; None if no number was given."""

    low: float
    high: float
    num: int | None


class Truncation(FiniteFloat):
    """One psi, or a `Sweep`: ``LOW:HIGH`` or ``LOW:HIGH:NUM``."""

    name = "FLOAT|LOW:HIGH[:NUM]"

    def convert(  # type: ignore[override]
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | Sweep:
        """Return the number or the range."""
        if not isinstance(value, str) or ":" not in value:
            return super().convert(value, param, ctx)
        low, high, *rest = value.split(":")
        if len(rest) > 1 or not all(_is_sweep_length(num) for num in rest):
            self.fail(f"{value[:100]!a}: give LOW:HIGH or LOW:HIGH:NUM, NUM from 2 to {MAX_SWEEP}", param, ctx)
        return Sweep(
            super().convert(low, param, ctx), super().convert(high, param, ctx), int(rest[0]) if rest else None
        )


def _is_sweep_length(text: str) -> bool:
    is_short = text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_SWEEP))
    return is_short and 2 <= int(text) <= MAX_SWEEP
