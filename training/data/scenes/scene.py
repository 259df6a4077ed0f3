"""A built-in dataset: street scenes with many objects of several categories, drawn from a seed and an index.

A scene is laid out in meters along a street that runs away from the camera, and is drawn from far to near so that near
objects hide far ones. Sky, skyline and road are always in the same place; objects, weather and time of day vary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from training.data.scenes.backdrop import CROSSING_M, ROAD_M, STREET_M, WALL_M, draw_ground, draw_sky, draw_skyline
from training.data.scenes.canvas import Box, Camera, Canvas, Item, Light
from training.data.scenes.objects import BUS_LENGTH_M, DRAW

MIN_SIZE_PX, MAX_SIZE_PX = 16, 1024

MIN_VISIBLE = 1 / 1024
"""Objects are omitted if the part inside the image is narrower or lower than this fraction of the image."""

DRIVING_M, PARKING_M = 1.5, 4.0
"""Distances of the two lanes on each side from the center line of the road."""

CAR_SPACE_M = 4.6
"""Length of road reserved for a car."""

DAY = Light(
    weight=4, sky_top=(64, 128, 214), sky_low=(192, 220, 240), tint=(1.0, 0.98, 0.94), haze=(190, 212, 230), haze_m=220,
    shadow=0.6, cloud=(252, 252, 254), max_clouds=5, disc=(255, 246, 214), casts=True,
)  # fmt: skip
OVERCAST = Light(
    weight=2, sky_top=(146, 156, 168), sky_low=(210, 214, 216), tint=(0.82, 0.84, 0.86), haze=(198, 202, 206),
    haze_m=120, shadow=0.5, cloud=(184, 190, 196), max_clouds=9,
)  # fmt: skip
SUNSET = Light(
    weight=2, sky_top=(92, 116, 176), sky_low=(252, 194, 132), tint=(1.0, 0.84, 0.68), haze=(238, 186, 142), haze_m=150,
    shadow=0.6, cloud=(250, 210, 184), max_clouds=5, disc=(255, 228, 164), casts=True,
)  # fmt: skip
DUSK = Light(
    weight=2, sky_top=(42, 42, 92), sky_low=(230, 116, 86), tint=(0.64, 0.54, 0.60), haze=(154, 96, 104), haze_m=160,
    shadow=0.5, cloud=(150, 90, 112), max_clouds=5, disc=(255, 156, 96), lamps_on=True,
)  # fmt: skip
NIGHT = Light(
    weight=2, sky_top=(10, 14, 40), sky_low=(44, 54, 100), tint=(0.36, 0.40, 0.56), haze=(38, 46, 80), haze_m=150,
    shadow=0.5, cloud=(44, 52, 84), max_clouds=4, disc=(238, 238, 224), lamps_on=True, has_stars=True,
)  # fmt: skip
LIGHTS = (DAY, OVERCAST, SUNSET, DUSK, NIGHT)


@dataclass(frozen=True)
class Street:
    """Random properties of a street; fractions are in 0..1.

    Args:
        crossing_m: Depth of the crosswalk, or None if there is none.
        houses: Fraction of houses among all buildings.
        trees: Fraction of places along the sidewalk where a tree stands.
        traffic: Fraction of occupied places on the road.
        max_people: Maximum number of people on each sidewalk.
    """

    crossing_m: float | None
    houses: float
    trees: float
    traffic: float
    max_people: int


@dataclass(frozen=True)
class Thing:
    """An object to draw, based at (x, z) meters; for buildings this is a corner, and ``length`` runs along the road."""

    category: str
    x: float
    z: float
    length: float = 0.0


def scene(seed: int, index: int, size_px: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Draw one street scene.

    The same seed and index give the same scene at all sizes.

    Args:
        seed: Random seed of the dataset.
        index: Index of the image in the dataset.
        size_px: Height and width of the image: a power of two in 16..1024.

    Returns:
        The image, RGB, uint8 [size_px, size_px, 3], and its objects from far to near, each a dict of ``category`` and
        ``box`` ([x0, y0, x1, y1] in pixels). A box encloses the whole object, hidden parts included, clipped to the
        image; objects that are completely hidden are omitted.

    Raises:
        ValueError: The size is not allowed.
    """
    if not MIN_SIZE_PX <= size_px <= MAX_SIZE_PX or size_px & (size_px - 1):
        raise ValueError(f"scene size: got {size_px}, must be a power of two in {MIN_SIZE_PX}..{MAX_SIZE_PX}")
    rng = Random(f"scene {seed} {index}")
    canvas = Canvas(size_px, _choose_camera(rng), _choose_light(rng))
    street = _choose_street(rng)
    draw_sky(canvas, rng)
    draw_skyline(canvas, rng)
    draw_ground(canvas, rng, street.crossing_m)
    things = sorted(lay_out(rng, street), key=lambda thing: -thing.z - thing.length)
    items = [Item(canvas, ident, thing.x, thing.z, thing.length) for ident, thing in enumerate(things, start=1)]
    for thing, item in zip(things, items, strict=True):
        DRAW[thing.category](item, rng)
    seen = canvas.seen()
    objects = [
        {"category": thing.category, "box": [round(edge * size_px, 2) for edge in box]}
        for thing, item in zip(things, items, strict=True)
        if item.ident in seen and (box := _clip(item.extent()))
    ]
    return canvas.pixels(), objects


def _clip(box: Box) -> Box | None:
    """Return the part of a box inside the image, or None if it is narrower or lower than `MIN_VISIBLE`."""
    u0, v0, u1, v1 = (min(max(edge, 0.0), 1.0) for edge in box)
    return (u0, v0, u1, v1) if min(u1 - u0, v1 - v0) > MIN_VISIBLE else None


def _choose_camera(rng: Random) -> Camera:
    return Camera(
        u=rng.uniform(0.44, 0.56),
        v=rng.uniform(0.48, 0.54),
        focal=0.85,
        x_m=rng.uniform(-0.6, 1.8),
        height_m=rng.uniform(2.3, 3.0),
    )


def _choose_light(rng: Random) -> Light:
    light = rng.choices(LIGHTS, [light.weight for light in LIGHTS])[0]
    r, g, b = (factor * rng.uniform(0.94, 1.06) for factor in light.tint)
    return dataclasses.replace(light, tint=(r, g, b), sun_side=rng.choice((-1, 1)))


def _choose_street(rng: Random) -> Street:
    return Street(
        crossing_m=rng.uniform(7.5, 13) if rng.random() < 0.4 else None,
        houses=rng.choice((0.0, 0.2, 0.9)),
        trees=rng.uniform(0.1, 0.9),
        traffic=rng.uniform(0.3, 0.9),
        max_people=rng.randint(2, 7),
    )


def lay_out(rng: Random, street: Street) -> Iterator[Thing]:
    """Yield the objects of a street, in no particular order."""
    for side in (-1, 1):
        yield from _place_buildings(rng, street, side)
        yield from _place_vehicles(rng, street, side)
        yield from _place_on_sidewalk(rng, street, side)
    if street.crossing_m:
        for side in (-1, 1):
            yield Thing("traffic light", side * (ROAD_M + 0.4), street.crossing_m + CROSSING_M + 0.3)
        for _ in range(rng.randint(1, 4)):
            yield Thing("person", rng.uniform(-ROAD_M, ROAD_M), street.crossing_m + rng.uniform(0.5, CROSSING_M - 0.5))


def _place_buildings(rng: Random, street: Street, side: int) -> Iterator[Thing]:
    """Line one side of the street with buildings; gaps become parks."""
    z = rng.uniform(5, 9)
    while z < STREET_M:
        length = rng.uniform(8, 15)
        if rng.random() < 0.82:
            category = "house" if rng.random() < street.houses else "building"
            yield Thing(category, side * (WALL_M + rng.uniform(0, 0.8)), z, length)
        else:
            for _ in range(3):
                yield Thing("tree", side * rng.uniform(WALL_M + 1, WALL_M + 8), z + rng.uniform(1, length))
        z += length


def _place_vehicles(rng: Random, street: Street, side: int) -> Iterator[Thing]:
    """Fill the lanes on one side, keeping the crossing clear."""
    for lane, gap, share_of_buses in ((DRIVING_M, 6.0, 0.12), (PARKING_M, 1.5, 0.0)):
        z = rng.uniform(5, 11)
        while z < 45:
            category, length = ("bus", BUS_LENGTH_M) if rng.random() < share_of_buses else ("car", CAR_SPACE_M)
            is_free = street.crossing_m is None or not -length - 1 < z - street.crossing_m < CROSSING_M + 1
            if is_free and rng.random() < street.traffic:
                yield Thing(category, side * lane + rng.uniform(-0.15, 0.15), z)
            z += length + gap * rng.uniform(0.7, 2)


def _place_on_sidewalk(rng: Random, street: Street, side: int) -> Iterator[Thing]:
    """Place trees and street lights along the curb, and people anywhere on the sidewalk."""
    z = rng.uniform(7, 14)
    while z < 45:
        if rng.random() < street.trees:
            yield Thing("tree", side * (ROAD_M + 1), z)
        z += rng.uniform(7, 12)
    for k in range(3):
        yield Thing("street light", side * (ROAD_M + 0.5), rng.uniform(9, 12) + 18 * k)
    for _ in range(rng.randint(1, street.max_people)):
        yield Thing("person", side * rng.uniform(ROAD_M + 0.8, WALL_M - 0.6), rng.uniform(8, 24))
