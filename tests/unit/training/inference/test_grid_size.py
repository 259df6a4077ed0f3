import pytest

from dnnlib.errors import UserError
from training.inference.grid_size import check_grid


def test_grids_are_limited_by_their_sides_and_their_area():
    for size in ((64, 16), (16, 64), (1, 64), (32, 32)):
        check_grid(*size, 1024)
    for columns, rows in ((65, 1), (1, 65), (64, 17), (17, 64), (33, 32)):
        said = f"a grid of {columns} x {rows} images of 1024 px is too large: a side may have 65536 px, and all of it"
        with pytest.raises(UserError, match=f"^{said} 1073741824 px$"):
            check_grid(columns, rows, 1024)
