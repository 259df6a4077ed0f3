import pytest

from training.inference.crop import CENTER, PAD, Crop


@pytest.mark.parametrize(
    ("how", "size", "square"),
    [
        (CENTER, (8, 3), (2, 0, 3)),
        (CENTER, (3, 8), (0, 2, 3)),
        (PAD, (8, 3), (0, -2, 8)),
        (PAD, (3, 8), (-2, 0, 8)),
        (CENTER, (5, 5), (0, 0, 5)),
        (PAD, (5, 5), (0, 0, 5)),
    ],
)
def test_an_odd_pixel_is_left_on_the_right_and_below(how, size, square):
    assert Crop(how).square(*size) == square


@pytest.mark.parametrize(("box", "is_inside"), [((2, 1, 4), True), ((3, 1, 4), False), ((2, 2, 4), False)])
def test_a_square_may_reach_the_edge_of_the_image(box, is_inside):
    if is_inside:
        assert Crop("box", box).square(6, 5) == box
    else:
        with pytest.raises(ValueError, match=r"has 6x5 pixels: the square --crop=.* is not inside it"):
            Crop("box", box).square(6, 5)
