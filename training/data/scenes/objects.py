"""The objects of a street scene: one drawing function per category, in meters relative to the base of the object.

Each function takes the item to draw and the random generator for its style. Vehicles to the left of the center line
come towards the camera; those to the right drive away.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from training.data.scenes.canvas import Color, Item, Point3, mix, upright

PAINTS: tuple[Color, ...] = (
    (206, 32, 36), (28, 80, 178), (238, 238, 240), (34, 36, 42), (156, 162, 170), (240, 190, 36),
    (30, 128, 92), (112, 30, 44), (232, 116, 30), (104, 166, 214), (210, 200, 176),
)  # fmt: skip
WALLS: tuple[Color, ...] = (
    (182, 96, 72), (206, 180, 142), (154, 156, 160), (226, 216, 198), (126, 84, 70), (194, 136, 96),
    (112, 128, 148), (216, 168, 122), (166, 182, 170), (236, 208, 152),
)  # fmt: skip
ROOFS: tuple[Color, ...] = ((150, 62, 46), (94, 70, 62), (84, 88, 98), (176, 86, 56))
CLOTHES: tuple[Color, ...] = (
    (214, 46, 50), (40, 88, 176), (240, 236, 228), (46, 48, 56), (56, 136, 86), (240, 188, 48),
    (136, 72, 150), (236, 128, 58), (98, 110, 130), (226, 130, 162),
)  # fmt: skip
TROUSERS: tuple[Color, ...] = ((38, 44, 66), (60, 58, 58), (92, 84, 72), (54, 74, 112), (130, 116, 92))
SKINS: tuple[Color, ...] = ((240, 200, 168), (214, 160, 122), (160, 108, 76), (104, 68, 48))
HAIRS: tuple[Color, ...] = ((40, 30, 26), (92, 60, 36), (190, 150, 84), (120, 116, 112))
LEAVES: tuple[Color, ...] = (
    (62, 116, 46), (84, 134, 52), (46, 100, 58), (112, 140, 50), (74, 124, 60), (204, 138, 40), (178, 84, 40),
)  # fmt: skip
WINDOW_LIGHTS: tuple[Color, ...] = ((255, 214, 130), (255, 232, 180), (250, 190, 96), (210, 226, 255))
SIGNALS: tuple[Color, ...] = ((250, 50, 40), (255, 190, 50), (60, 230, 110))
GLASS: Color = (52, 66, 84)
METAL: Color = (72, 76, 82)
RUBBER: Color = (24, 24, 28)
BARK: Color = (86, 64, 46)
PLATE: Color = (230, 230, 220)
HEADLIGHT: Color = (255, 248, 220)
TAILLIGHT: Color = (232, 30, 28)
LAMPLIGHT: Color = (255, 222, 150)

RIM = tuple((math.sin(math.tau * k / 10), math.cos(math.tau * k / 10)) for k in range(10))
"""A circle as (up, away) points."""

FLOOR_M = 3.0
FACING_GAIN = 0.85
"""Brightness of surfaces that face the camera."""

WINDOWS_WITHIN_M = 60.0
"""Walls farther away have no windows: size and haze would hide them."""

BUS_LENGTH_M = 9.0


@dataclass(frozen=True)
class Wall:
    """A vertical plane that starts at (``x``, 0) of its object and runs ``dx`` right and ``dz`` away per meter."""

    length: float
    height: float
    gain: float
    x: float = 0.0
    dx: float = 0.0
    dz: float = 0.0

    def panel(self, a0: float, y0: float, a1: float, y1: float) -> list[Point3]:
        """Return the corners of the part from ``a0`` to ``a1`` along the wall and from ``y0`` to ``y1`` in height."""
        x0, x1, z0, z1 = self.x + self.dx * a0, self.x + self.dx * a1, self.dz * a0, self.dz * a1
        return [(x0, y0, z0), (x1, y0, z1), (x1, y1, z1), (x0, y1, z0)]


def draw_building(item: Item, rng: Random) -> None:
    """Draw an apartment or office building with a shop; the side facing the street runs along the road at x = 0."""
    height = FLOOR_M * rng.choice((3, 4, 4, 5, 6, 8, 11)) + 1.5
    color = rng.choice(WALLS)
    _, street = _draw_walls(item, rng, color, height)
    item.detail(street.panel(0, height - 0.6, item.length, height), color, street.gain * 1.15)
    _draw_shop(item, rng, street)


def draw_house(item: Item, rng: Random) -> None:
    """Draw a house with a gabled roof whose ridge runs along the road."""
    height = FLOOR_M * rng.choice((1, 2, 2)) + 1.5
    color, roof = rng.choice(WALLS), rng.choice(ROOFS)
    front, street = _draw_walls(item, rng, color, height)
    middle, top = front.dx * front.length / 2, height + rng.uniform(2.0, 3.5)
    item.face([(0, height, 0), (2 * middle, height, 0), (middle, top, 0)], color, front.gain)
    eaves = [(0.0, height, -0.3), (0.0, height, item.length)]
    item.face([*eaves, (middle, top, item.length), (middle, top, -0.3)], roof, street.gain * 1.1)


def _draw_walls(item: Item, rng: Random, color: Color, height: float) -> tuple[Wall, Wall]:
    """Draw the wall facing the camera and the one along the street, with windows; return both."""
    front = Wall(rng.uniform(7, 13), height, FACING_GAIN, dx=-item.flank)
    street = Wall(item.length, height, item.flank_gain, dz=1.0)
    pitch, pier = rng.choice((2.2, 3.0, 4.0)), rng.choice((0.1, 0.25, 0.3))
    for wall in (front, street):
        item.face(wall.panel(0, 0, wall.length, height), color, wall.gain)
        if item.z < WINDOWS_WITHIN_M:
            _draw_windows(item, rng, wall, color, pitch, pier)
    return front, street


def _draw_windows(item: Item, rng: Random, wall: Wall, color: Color, pitch: float, pier: float) -> None:
    """Draw a band of glass on each floor, then divide the bands by strips of wall ``pitch`` meters apart."""
    glass = mix(GLASS, item.light.sky_low, 0.3)
    columns = max(int(wall.length / pitch), 1)
    pitch = wall.length / columns
    for floor in range(int(wall.height / FLOOR_M)):
        y = floor * FLOOR_M + 1.1
        item.detail(wall.panel(0, y, wall.length, y + 1.7), glass, wall.gain)
        lit = [column for column in range(columns) if rng.random() < 0.45] if item.light.lamps_on else []
        for column in lit:
            a = column * pitch
            item.detail(wall.panel(a, y, a + pitch, y + 1.7), rng.choice(WINDOW_LIGHTS), shines=True)
    half = pier * pitch
    for column in range(columns + 1):
        a = column * pitch
        item.detail(wall.panel(max(a - half, 0), 1.0, min(a + half, wall.length), wall.height - 0.6), color, wall.gain)


def _draw_shop(item: Item, rng: Random, street: Wall) -> None:
    """Draw a shop window under a colored sign."""
    lit = item.light.lamps_on
    end = street.length - 0.4
    item.detail(street.panel(0.4, 0.3, end, 2.6), WINDOW_LIGHTS[1] if lit else GLASS, street.gain, shines=lit)
    item.detail(street.panel(0.2, 2.6, end + 0.2, 3.4), rng.choice(CLOTHES), street.gain * 1.1, shines=lit)


@dataclass(frozen=True)
class CarShape:
    """Side view of a car in meters; ``cabin`` and ``roof`` give the near and far ends of the cabin and of its roof."""

    length: float
    half_width: float
    belt: float
    height: float
    cabin: tuple[float, float]
    roof: tuple[float, float]

    def turned(self) -> CarShape:
        """Return the same car facing the other way."""
        near_cabin, near_roof = ((self.length - far, self.length - near) for near, far in (self.cabin, self.roof))
        return dataclasses.replace(self, cabin=near_cabin, roof=near_roof)


CAR_SHAPES = (
    CarShape(4.4, 0.90, 0.92, 1.45, cabin=(1.1, 4.0), roof=(1.9, 3.3)),  # sedan
    CarShape(3.8, 0.86, 0.95, 1.52, cabin=(0.9, 3.75), roof=(1.6, 3.5)),  # hatchback
    CarShape(4.6, 0.96, 1.10, 1.78, cabin=(1.1, 4.5), roof=(1.8, 4.3)),  # SUV
    CarShape(4.9, 0.98, 1.20, 2.15, cabin=(0.5, 4.85), roof=(1.2, 4.8)),  # van
)


def draw_car(item: Item, rng: Random) -> None:
    """Draw a car."""
    shape = rng.choice(CAR_SHAPES)
    paint = rng.choice(PAINTS)
    w, belt, length = shape.half_width, shape.belt, shape.length
    item.shadow(w, -0.5, length)
    flank = Wall(length, belt, item.flank_gain, x=item.flank * w, dz=1.0)
    item.face(flank.panel(0, 0.28, length, belt), paint, flank.gain)
    for z in (0.85, length - 0.85):
        _draw_wheel(item, flank.x, z, 0.34)
    item.face([(-w, belt, 0), (w, belt, 0), (w, belt, length), (-w, belt, length)], paint, 1.12)
    _draw_cabin(item, shape if item.x < 0 else shape.turned(), paint)
    _draw_car_end(item, shape, paint)


def _draw_wheel(item: Item, x: float, z: float, radius: float) -> None:
    item.face([(x, radius * (1 + up), z + radius * away) for up, away in RIM], RUBBER)
    item.detail([(x, radius * (1 + up / 2), z + radius * away / 2) for up, away in RIM], METAL, 1.4)


def _draw_cabin(item: Item, shape: CarShape, paint: Color) -> None:
    """Draw side windows, windscreen or rear window, and roof."""
    (c0, c1), (r0, r1) = shape.cabin, shape.roof
    w, belt, height = shape.half_width, shape.belt, shape.height
    top = 0.8 * w
    glass = mix(GLASS, item.light.sky_top, 0.3)
    low, high = belt + 0.04, height - 0.08
    x0, x1 = item.flank * w, item.flank * top
    item.face([(x0, belt, c0), (x0, belt, c1), (x1, height, r1), (x1, height, r0)], paint, item.flank_gain)
    item.detail(
        [(x0, low, c0 + 0.25), (x0, low, c1 - 0.25), (x1, high, r1 - 0.1), (x1, high, r0 + 0.1)], glass, item.flank_gain
    )
    item.face([(-w, belt, c0), (w, belt, c0), (top, height, r0), (-top, height, r0)], paint, FACING_GAIN)
    item.detail([(-0.9 * w, low, c0), (0.9 * w, low, c0), (0.9 * top, high, r0), (-0.9 * top, high, r0)], glass, 1.1)
    item.face([(-top, height, r0), (top, height, r0), (top, height, r1), (-top, height, r1)], paint, 1.2)


def _draw_car_end(item: Item, shape: CarShape, paint: Color) -> None:
    """Draw the front or rear with wheels, bumper, number plate and lights."""
    w, belt = shape.half_width, shape.belt
    is_oncoming = item.x < 0
    for x in (-w, w - 0.24):
        item.face(upright(x, 0.0, x + 0.24, 0.34), RUBBER)
    item.face(upright(-w, 0.24, w, belt), paint, FACING_GAIN)
    item.detail(upright(-w, 0.24, w, 0.42), paint, 0.5)
    if is_oncoming:
        item.detail(upright(-0.5, 0.5, 0.5, belt - 0.15), RUBBER, 1.4)
    item.detail(upright(-0.26, 0.44, 0.26, 0.56), PLATE)
    _draw_vehicle_lights(item, w - 0.2, belt - 0.22)


def _draw_vehicle_lights(item: Item, x: float, y: float) -> None:
    is_oncoming = item.x < 0
    color, halo = (HEADLIGHT, 6.0) if is_oncoming else (TAILLIGHT, 4.0)
    if item.light.lamps_on:
        item.spot(0.0, 1.6, -3.0, 0.2, color, 0.35 if is_oncoming else 0.2)
    for side in (-1, 1):
        item.lamp(side * x, y, 0.13, color, halo)


def draw_bus(item: Item, rng: Random) -> None:
    """Draw a bus."""
    paint = rng.choice(PAINTS)
    w, height, length = 1.25, 3.1, BUS_LENGTH_M
    lit = item.light.lamps_on
    glass = mix(GLASS, item.light.sky_low, 0.25)
    item.shadow(w, -0.6, length)
    flank = Wall(length, height, item.flank_gain, x=item.flank * w, dz=1.0)
    item.face(flank.panel(0, 0.4, length, height), paint, flank.gain)
    item.detail(flank.panel(0.4, 1.4, length - 0.3, 2.5), WINDOW_LIGHTS[1] if lit else glass, flank.gain, lit)
    for k in range(1, 6):
        a = k * length / 6
        item.detail(flank.panel(a - 0.08, 1.4, a + 0.08, 2.5), paint, flank.gain)
    for z in (1.6, length - 2.0):
        _draw_wheel(item, flank.x, z, 0.48)
    for x in (-w, w - 0.35):
        item.face(upright(x, 0.0, x + 0.35, 0.5), RUBBER)
    item.face(upright(-w, 0.35, w, height), paint, FACING_GAIN)
    item.face(upright(0.12 - w, 1.25 if item.x < 0 else 1.7, w - 0.12, 2.5), glass, 1.1)
    item.detail(upright(-0.9, 2.62, 0.9, 2.92), RUBBER)
    item.detail(upright(-0.75, 2.68, 0.75, 2.86), LAMPLIGHT, shines=True)
    _draw_vehicle_lights(item, w - 0.3, 0.75)


def draw_person(item: Item, rng: Random) -> None:
    """Draw an adult or a child, standing or walking."""
    k = rng.uniform(0.92, 1.08) if rng.random() < 0.85 else rng.uniform(0.6, 0.75)
    shirt, trousers = rng.choice(CLOTHES), rng.choice(TROUSERS)
    stride = rng.uniform(-0.28, 0.28)

    def part(color: Color, gain: float, *outline: tuple[float, float]) -> None:
        item.face([(k * x, k * y, 0.0) for x, y in outline], color, gain)

    item.shadow(0.4 * k, -0.25, 0.25)
    for side in (-1, 1):
        hip, foot = 0.09 * side, side * (0.09 + stride)
        part(trousers, 1.0, (hip - 0.1, 0.9), (hip + 0.1, 0.9), (foot + 0.08, 0), (foot - 0.08, 0))
        hand = side * (0.28 + stride / 2)
        part(shirt, 0.8, (0.25 * side - 0.06, 1.42), (0.25 * side + 0.06, 1.42), (hand + 0.05, 0.8), (hand - 0.05, 0.8))
    if rng.random() < 0.3:
        part(shirt, 0.9, (-0.16, 1.1), (0.16, 1.1), (0.3, 0.5), (-0.3, 0.5))
    part(shirt, 1.0, (-0.24, 1.46), (0.24, 1.46), (0.17, 0.85), (-0.17, 0.85))
    item.oval(0, 1.63 * k, 0.13 * k, 0.15 * k, rng.choice(HAIRS))
    item.oval(0, 1.58 * k, 0.1 * k, 0.12 * k, rng.choice(SKINS))


def draw_tree(item: Item, rng: Random) -> None:
    """Draw a broad-leaved tree or a conifer, brighter towards the sun."""
    k = rng.uniform(0.75, 1.35)
    leaf = rng.choice(LEAVES)
    item.shadow(1.5 * k, -0.8, 0.8)
    item.face([(-0.18, 0, 0), (0.18, 0, 0), (0.1, 2.8 * k, 0), (-0.1, 2.8 * k, 0)], BARK)
    if rng.random() < 0.2:
        _draw_conifer(item, k)
    else:
        _draw_crown(item, rng, leaf, k)


def _draw_conifer(item: Item, k: float) -> None:
    sun = item.light.sun_side
    for y, half in ((1.2, 1.5), (2.4, 1.15), (3.6, 0.8)):
        tip = (0.0, (y + 2.2) * k, 0.0)
        item.face([(-half * k, y * k, 0), (half * k, y * k, 0), tip], LEAVES[2], 0.7)
        item.face([(0, y * k, 0), (sun * half * k, y * k, 0), tip], LEAVES[2], 1.0)


def _draw_crown(item: Item, rng: Random, leaf: Color, k: float) -> None:
    """Draw clumps of leaves in three layers, each smaller, brighter and nearer to the sun than the one before."""
    tufts = [(rng.uniform(-1.1, 1.1) * k, rng.uniform(2.7, 4.8) * k, rng.uniform(0.7, 1.2) * k) for _ in range(5)]
    for shift, share, gain in ((0.0, 1.0, 0.68), (0.22, 0.75, 0.92), (0.4, 0.42, 1.15)):
        for x, y, r in tufts:
            item.oval(x + item.light.sun_side * shift * r, y + shift * r, r * share, r * share, leaf, gain)


def draw_street_light(item: Item, rng: Random) -> None:
    """Draw a street light whose arm reaches over the road."""
    inward = -1 if item.x > 0 else 1
    height = rng.uniform(5.5, 6.5)
    item.face(upright(-0.08, 0, 0.08, height), METAL)
    arm = [(0.0, height - 0.12, 0.0), (inward * 1.8, height + 0.15, 0.0), (inward * 1.8, height + 0.32, 0.0)]
    item.face([*arm, (0, height + 0.08, 0)], METAL)
    if item.light.lamps_on:
        item.spot(inward * 1.5, 2.6, -1.5, 1.8, LAMPLIGHT, 0.4)
        item.lamp(inward * 1.5, height + 0.1, 0.22, LAMPLIGHT, halo=8.0)


def draw_traffic_light(item: Item, rng: Random) -> None:
    """Draw a traffic light with one of its three lamps on."""
    item.face(upright(-0.07, 0, 0.07, 2.6), METAL)
    item.face(upright(-0.24, 2.5, 0.24, 3.9), RUBBER)
    on = rng.choice(SIGNALS)
    for k, color in enumerate(SIGNALS):
        shine, halo = (color, 4.0) if color == on else (mix(RUBBER, color, 0.2), 0.0)
        item.lamp(0.0, 3.62 - 0.42 * k, 0.17, shine, halo)


DRAW: dict[str, Callable[[Item, Random], None]] = {
    "building": draw_building,
    "bus": draw_bus,
    "car": draw_car,
    "house": draw_house,
    "person": draw_person,
    "street light": draw_street_light,
    "traffic light": draw_traffic_light,
    "tree": draw_tree,
}
"""Drawing function of each category."""
