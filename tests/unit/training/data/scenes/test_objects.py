import dataclasses
from random import Random

import numpy as np
import pytest

from training.data.scenes.canvas import Camera, Canvas, Item
from training.data.scenes.objects import CAR_SHAPES, DRAW, HEADLIGHT, TAILLIGHT
from training.data.scenes.scene import DAY

SIZE_PX = 256
CAMERA = Camera(u=0.5, v=0.5, focal=0.15, x_m=0.0, height_m=2.5)
CLOSE_UP = dataclasses.replace(CAMERA, focal=1.0)
STARK = dataclasses.replace(DAY, shadow=0.0, haze_m=1e9)
"""Light in which an object on a black canvas is all that can be seen."""


def draw(category, x, seed, camera=CAMERA):
    canvas = Canvas(SIZE_PX, camera, STARK)
    item = Item(canvas, 1, x, z=12.0, length=8.0)
    DRAW[category](item, Random(seed))
    return canvas.pixels(), item


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("x", [-8.5, 8.5])
@pytest.mark.parametrize("category", DRAW)
def test_extent_is_the_box_of_what_is_drawn(category, x, seed):
    pixels, item = draw(category, x, seed)
    rows, columns = np.nonzero(pixels.max(axis=2))
    drawn = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert np.array(item.extent()) * SIZE_PX == pytest.approx(np.array(drawn), abs=1.5)


@pytest.mark.parametrize("category", DRAW)
def test_styles_vary(category):
    assert len({draw(category, 6.0, seed)[0].tobytes() for seed in range(8)}) > 2


@pytest.mark.parametrize("category", ["car", "bus"])
def test_vehicles_on_the_left_come_and_on_the_right_go(category):
    def has(color, x):
        return (np.abs(draw(category, x, 0, CLOSE_UP)[0].astype(int) - color).max(axis=2) <= 1).any()

    assert has(HEADLIGHT, -2.0)
    assert has(TAILLIGHT, 2.0)
    assert not has(HEADLIGHT, 2.0)
    assert not has(TAILLIGHT, -2.0)


def test_turned_twice_is_the_same_car():
    for shape in CAR_SHAPES:
        turned = shape.turned()
        assert turned != shape
        assert dataclasses.astuple(turned.turned())[:4] == dataclasses.astuple(shape)[:4]
        assert turned.turned().roof == pytest.approx(shape.roof)
