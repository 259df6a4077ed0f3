import numpy as np
import pytest

from training.data.overview import overview, overview_size


@pytest.mark.parametrize(
    ("grid", "side", "shown"),
    [
        ((32, 32), 32, (14, 8)),
        ((32, 32), 64, (14, 8)),
        ((30, 16), 256, (7, 4)),
        ((7, 4), 1024, (7, 4)),
        ((3, 2), 8, (3, 2)),
    ],
)
def test_an_overview_shows_what_can_be_recognized(grid, side, shown):
    assert overview_size(*grid, side, side) == shown


def test_overview_of_large_images():
    img = np.full([4, 3, 256, 256], -1, np.float32)
    img[1, 0] = 3  # beyond the range, which is white
    img[2, 1, :, 1::2] = 1
    found = overview(img, columns=2)
    assert (found.shape, found.dtype) == ((256, 256, 3), np.uint8)
    assert found[0, 128].tolist() == [255, 0, 0]
    assert found[128, 0].tolist() == [0, 128, 0]  # the average of two columns
    assert found[0, 0].tolist() == found[255, 255].tolist() == [0, 0, 0]


def test_what_a_diverged_generator_draws_is_black():
    found = overview(np.full([1, 3, 8, 8], np.nan, np.float32), columns=1)
    assert found.max() == 0
