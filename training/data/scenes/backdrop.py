"""The fixed parts of a street scene, which are not listed as objects: sky, skyline and ground."""

from __future__ import annotations

from random import Random

import numpy as np

from training.data.scenes.canvas import NEAR_M, SHADOW, Canvas, Color, Item, mix, upright
from training.data.scenes.objects import WINDOW_LIGHTS

ROAD_M = 5.0
"""Half the width of the road."""

WALL_M = 8.5
"""Distance of the houses from the center line of the road; the sidewalk lies between road and houses."""

STREET_M = 80.0
"""Length of the street."""

SKYLINE_M = 130.0
"""Depth of the towers beyond the end of the street."""

CROSSING_M = 3.0
"""Width of a crosswalk."""

LANDS: tuple[Color, ...] = ((96, 128, 62), (120, 132, 70), (142, 136, 124))
CURB: Color = (202, 200, 192)
WHITE: Color = (232, 230, 222)
YELLOW: Color = (240, 200, 70)
TOWER_GLASS: Color = (76, 86, 104)


def draw_sky(canvas: Canvas, rng: Random) -> None:
    """Draw the sky: gradient, stars, sun or moon, clouds."""
    light, horizon = canvas.light, canvas.camera.v
    down = (canvas.row_heights(0, horizon)[:, np.newaxis] / horizon) ** 1.3
    canvas.rows(0, np.array(light.sky_top) * (1 - down) + np.array(light.sky_low) * down)
    for _ in range(40 if light.has_stars else 0):
        u, v, r = rng.random(), rng.uniform(0, 0.4), rng.uniform(0.001, 0.0025)
        canvas.oval((u - r, v - r, u + r, v + r), (220, 224, 236))
    if light.disc:
        u, v = canvas.camera.u + light.sun_side * rng.uniform(0.02, 0.25), rng.uniform(0.1, 0.3)
        for r, alpha, firmness in ((0.22, 0.5, 1.0), (0.04, 1.0, 8.0)):
            canvas.mist((u - r, v - r, u + r, v + r), light.disc, alpha, firmness)
    for _ in range(rng.randint(light.max_clouds // 2, light.max_clouds)):
        _draw_cloud(canvas, rng)


def _draw_cloud(canvas: Canvas, rng: Random) -> None:
    u, v, size = rng.uniform(0, 1), rng.uniform(0.02, 0.32), rng.uniform(0.04, 0.09)
    for _ in range(6):
        x, y, r = u + rng.uniform(-1.8, 1.8) * size, v + rng.uniform(-0.3, 0.3) * size, rng.uniform(0.6, 1.1) * size
        canvas.mist((x - 1.6 * r, y - 0.7 * r, x + 1.6 * r, y + 0.7 * r), canvas.light.cloud, 0.7, firmness=1.6)


def draw_skyline(canvas: Canvas, rng: Random) -> None:
    """Draw the row of hazy towers behind the end of the street."""
    x = -80.0
    while x < 80.0:
        width, height = rng.uniform(7, 16), rng.choice((10, 16, 20, 28, 40, 52)) * rng.uniform(0.8, 1.1)
        tower = Item(canvas, 0, x, SKYLINE_M)
        color = mix((112, 114, 130), (176, 154, 142), rng.random())
        tower.face(upright(0, 0, width, height), color, rng.uniform(0.7, 1.0))
        for floor in range(6, int(height), 5):
            if canvas.light.lamps_on:
                left = rng.uniform(0.5, width - 2.5)
                tower.detail(upright(left, floor, left + 2, floor + 1.6), rng.choice(WINDOW_LIGHTS), shines=True)
            else:
                tower.detail(upright(1, floor, width - 1, floor + 1.6), TOWER_GLASS, 0.9)
        x += width + rng.choice((0, 0, 4))


def draw_ground(canvas: Canvas, rng: Random, crossing_m: float | None) -> None:
    """Draw the road, the sidewalks, the land beyond and, in full sun, the shadow of the houses.

    Args:
        canvas: Canvas to draw on.
        rng: Random generator for colors and markings.
        crossing_m: Depth of the crosswalk, or None if there is none.
    """
    light, camera = canvas.light, canvas.camera
    asphalt = mix((70, 72, 78), (102, 100, 98), rng.random())
    depth = camera.ground_depth_m(canvas.row_heights(camera.v, 1))
    clear = np.exp(-depth / light.haze_m)[:, np.newaxis]
    canvas.rows(camera.v, np.array(asphalt) * light.tint * clear + np.array(light.haze) * (1 - clear))
    sidewalk = mix((150, 146, 138), (178, 162, 140), rng.random())
    land = rng.choice(LANDS)
    for side in (-1, 1):
        _draw_strip(canvas, side * WALL_M, side * 250, NEAR_M, SKYLINE_M, land, 6)
        _draw_strip(canvas, side * ROAD_M, side * WALL_M, NEAR_M, SKYLINE_M, sidewalk, 6)
        _draw_strip(canvas, side * ROAD_M, side * (ROAD_M + 0.2), NEAR_M, SKYLINE_M, CURB, 3)
    for _ in range(3):
        x, z = rng.uniform(-ROAD_M, ROAD_M - 2), rng.uniform(3.5, 20)
        _draw_strip(canvas, x, x + rng.uniform(0.6, 2), z, z * rng.uniform(1.1, 1.4), mix(asphalt, SHADOW, 0.25))
    _draw_markings(canvas, rng, crossing_m)
    if light.casts:
        rim, out = light.sun_side * rng.uniform(-2, ROAD_M), light.sun_side * 60
        corners = camera.project([(rim, 0, NEAR_M), (out, 0, NEAR_M), (out, 0, STREET_M), (rim, 0, STREET_M)])
        canvas.veil(corners, SHADOW, 0.38)


def _draw_markings(canvas: Canvas, rng: Random, crossing_m: float | None) -> None:
    """Draw the edge lines of the parking lanes, the dashed center line and the crosswalk."""
    for side in (-1, 1):
        _draw_strip(canvas, side * 2.95, side * 3.07, NEAR_M, SKYLINE_M, WHITE, 3)
    paint = rng.choice((WHITE, YELLOW))
    phase = rng.uniform(NEAR_M, 8)
    for z in (phase + 6 * dash for dash in range(12)):
        if crossing_m is None or abs(z - crossing_m) > 3.5:
            _draw_strip(canvas, -0.08, 0.08, z, z + 3, paint)
    if crossing_m is not None:
        for bar in range(8):
            x = 1.22 * bar + 0.4 - ROAD_M
            _draw_strip(canvas, x, x + 0.62, crossing_m, crossing_m + CROSSING_M, WHITE)


def _draw_strip(canvas: Canvas, x0: float, x1: float, z0: float, z1: float, color: Color, num_bands: int = 1) -> None:
    """Draw a strip of ground along the road, in bands of increasing length that fade into the haze."""
    for band in range(num_bands):
        near, far = z0 * (z1 / z0) ** (band / num_bands), z0 * (z1 / z0) ** ((band + 1) / num_bands)
        corners = canvas.camera.project([(x0, 0, near), (x1, 0, near), (x1, 0, far), (x0, 0, far)])
        canvas.polygon(corners, canvas.light.shade(color, canvas.light.clear((near + far) / 2)))
