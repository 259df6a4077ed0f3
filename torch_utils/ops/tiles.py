"""How the programs of a kernel share images ``[N, C, H, W]``."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from torch_utils.ops.layout import is_channels_last

TILE = 2048
"""Elements that a program handles at a time: 16 per thread, 8 in passes that sum, or registers would not suffice."""

NUM_PROGRAMS = 1024
"""Goal of passes that sum: enough programs to fill a GPU, few enough to keep partial sums small."""


def ceil_power_of_2(number: int) -> int:
    """Return the smallest power of two that is at least ``number``, which is positive."""
    return 1 << (number - 1).bit_length()


class Tiling(NamedTuple):
    """How programs share a dense ``[N, C, H, W]``: a tile is some pixels of some channels of one sample."""

    grid: tuple[int, int, int]
    """Programs along pixels, channels, samples."""
    tiles: int
    """Tiles per program, along pixels."""
    layout: tuple[int, int, int, int, int]
    """C, P, and the elements from one sample, pixel and channel to the next."""
    block: dict[str, int]
    """BP pixels and BC channels of a tile."""

    @classmethod
    def of(cls, x: Tensor, sums: bool = False) -> Tiling:
        """Divide ``x``; with ``sums``, programs take several tiles where there are many."""
        num, channels, height, width = x.shape
        pixels = height * width
        if is_channels_last(x):
            bc = min(ceil_power_of_2(channels), 64, TILE)
            bp = min(ceil_power_of_2(pixels), TILE // bc)
            strides = channels * pixels, channels, 1
        else:
            bp = min(ceil_power_of_2(pixels), 512, TILE)
            bc = min(ceil_power_of_2(channels), TILE // bp)
            strides = channels * pixels, 1, pixels
        rows, columns = -(-pixels // bp), -(-channels // bc)
        tiles = max(min(rows, rows * columns * num // NUM_PROGRAMS), 1) if sums else 1
        return cls((-(-rows // tiles), columns, num), tiles, (channels, pixels, *strides), {"BP": bp, "BC": bc})
