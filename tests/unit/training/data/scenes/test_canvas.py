import dataclasses

import numpy as np
import pytest

from tests.helpers import assert_close
from training.data.scenes.canvas import Camera, Canvas, Item
from training.data.scenes.scene import DAY

CAMERA = Camera(u=0.5, v=0.4, focal=0.8, x_m=1.0, height_m=2.5)
WHITE = (255, 255, 255)


@pytest.fixture
def canvas():
    return Canvas(64, CAMERA, DAY)


def test_projection_shrinks_with_depth():
    near, far, on_axis = CAMERA.project([(3, 0, 10), (3, 0, 20), (1, 2.5, 7)])
    assert near == pytest.approx((0.5 + 0.8 * 2 / 10, 0.4 + 0.8 * 2.5 / 10))
    assert np.subtract(near, (0.5, 0.4)) == pytest.approx(2 * np.subtract(far, (0.5, 0.4)))
    assert on_axis == pytest.approx((0.5, 0.4))


def test_projection_is_relative_to_the_foot():
    assert CAMERA.project([(1, 2, 3)], x=4, z=5) == CAMERA.project([(5, 2, 8)])


def test_ground_depth_inverts_the_projection():
    depths = np.array([3.0, 10.0, 80.0])
    heights = np.array([CAMERA.project([(0, 0, z)])[0][1] for z in depths])
    assert_close(CAMERA.ground_depth_m(heights), depths)


def test_haze():
    assert DAY.shade((100, 50, 20), clear=DAY.clear(0), gain=0.5) == pytest.approx(
        tuple(0.5 * c * t for c, t in zip((100, 50, 20), DAY.tint, strict=True))
    )
    assert DAY.shade((100, 50, 20), clear=DAY.clear(1e6)) == pytest.approx(DAY.haze)


def test_edges_are_anti_aliased(canvas):
    canvas.polygon([(0, 0), (0.9, 0), (0, 0.7)], WHITE)
    pixels = canvas.pixels()[..., 0]
    assert len(np.unique(pixels)) > 8
    assert pixels.mean() / 255 == pytest.approx(0.9 * 0.7 / 2, abs=0.01)


def test_oval_covers_its_area(canvas):
    canvas.oval((0.1, 0.2, 0.7, 0.9), WHITE)
    assert canvas.pixels().mean() / 255 == pytest.approx(np.pi / 4 * 0.6 * 0.7, abs=0.01)


def test_veil_is_translucent(canvas):
    canvas.polygon([(0, 0), (1, 0), (1, 1), (0, 1)], WHITE)
    canvas.veil([(0, 0), (1, 0), (1, 1), (0, 1)], (0, 0, 0), 0.4)
    assert np.abs(canvas.pixels() - 0.6 * 255).max() <= 2


def test_mist_fades_towards_its_rim(canvas):
    canvas.mist((0, 0, 1, 1), WHITE, 0.8)
    row = canvas.pixels()[32, 32:, 0].astype(int)
    assert row[0] == pytest.approx(0.8 * 255, abs=6)
    assert row[16] == pytest.approx(0.4 * 255, abs=6)
    assert (np.diff(row) <= 0).all()
    assert canvas.pixels()[0, 0, 0] == 0


def test_rows(canvas):
    heights = canvas.row_heights(0.25, 1)
    canvas.rows(0.25, np.repeat(heights[:, np.newaxis] * 200, 3, axis=1))
    column = canvas.pixels()[:, 5, 1]
    assert (column[:16] == 0).all()
    assert np.abs(column[16:] - (np.arange(16, 64) + 0.5) / 64 * 200).max() <= 1


def test_seen_tells_what_is_hidden(canvas):
    wall = [(-2, 0, 0), (2, 0, 0), (2, 3, 0), (-2, 3, 0)]
    Item(canvas, 1, x=1.0, z=20.0).face(wall, WHITE)
    Item(canvas, 2, x=5.0, z=15.0).face(wall, WHITE)
    assert {1, 2} <= canvas.seen()
    Item(canvas, 3, x=1.0, z=10.0).face(wall, WHITE)
    assert 1 not in canvas.seen()
    assert {2, 3} <= canvas.seen()
    Item(canvas, 4, x=-90.0, z=10.0).face(wall, WHITE)
    assert 4 not in canvas.seen()


def test_lamps_have_halos_where_they_are_on():
    def light_of(lamps_on):
        canvas = Canvas(64, CAMERA, dataclasses.replace(DAY, lamps_on=lamps_on))
        Item(canvas, 1, x=0.0, z=5.0).lamp(0, 1, 0.2, WHITE, halo=5.0)
        return canvas.pixels().astype(int).sum()

    assert light_of(True) > 2 * light_of(False) > 0
