"""Sizes of grids of images, which are drawn in memory."""

from __future__ import annotations

import math
import re
from typing import Any, Literal

import click

from dnnlib.errors import UserError

Grid = tuple[int, int] | Literal["auto"]
"""(columns, rows), or 'auto' for an approximately square grid."""

MAX_GRID_PX = 1 << 16
"""Limit of the width and the height of a grid of images."""

MAX_GRID_AREA_PX = 1 << 30
"""Limit of its area, since it is drawn in memory: 3 GiB in RGB."""


class GridSize(click.ParamType):
    """``COLUMNSxROWS``, or ``auto`` for an approximately square grid."""

    name = "COLUMNSxROWS|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Grid:
        """Check the numbers."""
        if value == "auto":
            return "auto"
        columns, _, rows = str(value).partition("x")
        if not all(re.fullmatch("[1-9][0-9]{0,8}", side) for side in (columns, rows)):
            self.fail(f"{str(value)[:100]!a}: give COLUMNSxROWS, such as 6x4, or auto", param, ctx)
        return int(columns), int(rows)


def max_rows(columns: int, resolution_px: int) -> int:
    """Return the most rows of square images that a grid may have, by `MAX_GRID_PX` and `MAX_GRID_AREA_PX`."""
    return min(MAX_GRID_PX // resolution_px, MAX_GRID_AREA_PX // (columns * resolution_px**2))


def check_grid(columns: int, rows: int, resolution_px: int) -> None:
    """Check the size of a grid of square images before they are drawn.

    Raises:
        UserError: It is wider or higher than `MAX_GRID_PX`, or has more than `MAX_GRID_AREA_PX` in all.
    """
    if columns * resolution_px > MAX_GRID_PX or rows > max_rows(columns, resolution_px):
        raise UserError(
            f"a grid of {columns} x {rows} images of {resolution_px} px is too large: a side may have {MAX_GRID_PX} px"
            f", and all of it {MAX_GRID_AREA_PX} px"
        )


def fit_grid(grid: Grid, num: int, resolution_px: int) -> tuple[int, int]:
    """Return (columns, rows) for ``num`` square images.

    Raises:
        UserError: The images do not fit in the grid, or the grid is too large.
    """
    if grid == "auto":
        columns = math.ceil(math.sqrt(num))
        rows = math.ceil(num / columns)
    else:
        columns, rows = grid
    if columns * rows < num:
        raise UserError(f"--grid={columns}x{rows}: {num} images do not fit in {columns * rows} cells")
    check_grid(columns, rows, resolution_px)
    return columns, rows
