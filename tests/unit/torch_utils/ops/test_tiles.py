from __future__ import annotations

import itertools

import pytest
import torch

from tests.helpers import in_layout
from torch_utils.ops.tiles import NUM_PROGRAMS, TILE, Tiling

SHAPES = [(2, 3, 5, 7), (1, 1, 1, 1), (3, 130, 4, 4), (1, 64, 64, 64), (2, 5, 33, 65)]


@pytest.mark.parametrize("sums", [False, True])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_element_is_in_one_tile(shape: tuple[int, ...], layout: str, sums: bool) -> None:
    x = in_layout(torch.empty(shape), layout)
    tiling = Tiling.of(x, sums)
    (channels, pixels, sn, sp, sc), (bp, bc) = tiling.layout, tiling.block.values()
    seen = torch.zeros(x.numel(), dtype=torch.long)
    for split, column, n in itertools.product(*map(range, tiling.grid)):
        for tile in range(split * tiling.tiles, (split + 1) * tiling.tiles):
            p, c = tile * bp + torch.arange(bp), column * bc + torch.arange(bc)
            at = n * sn + p[p < pixels][:, None] * sp + c[c < channels] * sc
            seen.index_add_(0, at.flatten(), torch.ones(at.numel(), dtype=torch.long))
    assert (seen == 1).all()
    assert bp * bc <= TILE


def test_passes_that_sum_have_enough_programs_and_no_more() -> None:
    for shape in [(8, 512, 32, 32), (64, 64, 256, 256), (4, 32, 1024, 1024)]:
        with torch.device("meta"):
            tiling = Tiling.of(torch.empty(shape, memory_format=torch.channels_last), sums=True)
        assert NUM_PROGRAMS <= torch.Size(tiling.grid).numel() <= 2 * NUM_PROGRAMS
