"""Drawing primitives for street scenes: a pinhole camera over flat ground, light with haze, an anti-aliased canvas.

Image points (u, v) lie in 0..1, u to the right, v down. World points (x, y, z) are meters to the right of the center
line of the road, above the ground and away from the camera. Colors are RGB in 0..255. Coordinates are rounded to
pixels last, so that a scene has the same content at all sizes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

Color = tuple[float, float, float]
Point = tuple[float, float]
Point3 = tuple[float, float, float]
Box = tuple[float, float, float, float]

NEAR_M = 2.0
"""Points nearer than this are projected as if they were at this depth."""

MIN_DRAWN_PX = 256
"""Images are drawn at this size or at twice their own size, whichever is larger, and averaged down."""

COVERAGE_PX = 128
"""Side of the map of visible objects; fixed, so that the same objects are listed at all image sizes."""

SHADOW: Color = (10, 12, 24)


def upright(x0: float, y0: float, x1: float, y1: float) -> list[Point3]:
    """Return the corners of an upright rectangle at depth 0 that faces the camera."""
    return [(x0, y0, 0), (x1, y0, 0), (x1, y1, 0), (x0, y1, 0)]


def mix(a: Color, b: Color, t: float) -> Color:
    """Interpolate linearly from color ``a`` (t = 0) to ``b`` (t = 1)."""
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t


@dataclass(frozen=True)
class Camera:
    """Pinhole camera looking along the road.

    Args:
        u: Horizontal image position of the vanishing point.
        v: Vertical image position of the horizon.
        focal: Focal length in image widths.
        x_m: Horizontal position across the road.
        height_m: Height above the ground.
    """

    u: float
    v: float
    focal: float
    x_m: float
    height_m: float

    def project(self, points: Sequence[Point3], x: float = 0.0, z: float = 0.0) -> list[Point]:
        """Project world points, given relative to (x, 0, z), to image points."""
        projected = []
        for right, up, away in points:
            scale = self.focal / max(z + away, NEAR_M)
            projected.append((self.u + scale * (x + right - self.x_m), self.v + scale * (self.height_m - up)))
        return projected

    def ground_depth_m(self, v: np.ndarray) -> np.ndarray:
        """Return the depth of the ground visible at image heights ``v`` below the horizon."""
        return self.focal * self.height_m / np.maximum(v - self.v, 1e-6)


@dataclass(frozen=True)
class Light:
    """Time of day and weather.

    Args:
        weight: Relative frequency.
        sky_top: Color of the sky overhead.
        sky_low: Color of the sky at the horizon.
        tint: Factor on each color channel of all lit surfaces.
        haze: Color that distant surfaces fade to.
        haze_m: Depth at which they have faded by 63 %.
        shadow: Opacity of shadows, 0..1.
        cloud: Color of clouds.
        max_clouds: Maximum number of clouds.
        disc: Color of the sun or moon; None if it is hidden.
        lamps_on: Whether windows, vehicles and street lights are lit.
        has_stars: Whether stars are visible.
        casts: Whether the sun is strong enough for the houses to cast shadows.
        sun_side: -1 if the sun is to the left of the road, +1 if it is to the right.
    """

    weight: float
    sky_top: Color
    sky_low: Color
    tint: Color
    haze: Color
    haze_m: float
    shadow: float
    cloud: Color
    max_clouds: int
    disc: Color | None = None
    lamps_on: bool = False
    has_stars: bool = False
    casts: bool = False
    sun_side: int = 1

    def clear(self, z: float) -> float:
        """Return the fraction of a color that is visible through the haze at depth ``z``."""
        return math.exp(-z / self.haze_m)

    def shade(self, color: Color, clear: float, gain: float = 1.0) -> Color:
        """Return the visible color of a surface lit with ``gain``, of which the haze leaves the fraction ``clear``."""
        (r, g, b), (tint_r, tint_g, tint_b), (haze_r, haze_g, haze_b) = color, self.tint, self.haze
        lit, dim = clear * gain, 1 - clear
        return r * tint_r * lit + haze_r * dim, g * tint_g * lit + haze_g * dim, b * tint_b * lit + haze_b * dim


class Canvas:
    """An image being drawn, in image coordinates, with a map of which object is visible where.

    Args:
        size_px: Height and width of the finished image: a power of two.
        camera: Point of view.
        light: Time of day and weather.
    """

    def __init__(self, size_px: int, camera: Camera, light: Light) -> None:
        self.size_px = size_px
        self.camera = camera
        self.light = light
        self._drawn_px = max(MIN_DRAWN_PX, 2 * size_px)
        self._image = Image.new("RGB", (self._drawn_px, self._drawn_px))
        self._pen = ImageDraw.Draw(self._image)
        self._coverage = Image.new("L", (COVERAGE_PX, COVERAGE_PX))
        self._cover = ImageDraw.Draw(self._coverage)

    def row_heights(self, top: float, bottom: float) -> np.ndarray:
        """Return the image heights v of the pixel rows between two heights."""
        return (np.arange(round(top * self._drawn_px), round(bottom * self._drawn_px)) + 0.5) / self._drawn_px

    def rows(self, top: float, colors: np.ndarray) -> None:
        """Fill whole rows from height ``top`` downwards, one for each of ``colors`` [n, 3]."""
        column = Image.fromarray(np.clip(colors, 0, 255).astype(np.uint8)[:, np.newaxis])
        self._image.paste(column.resize((self._drawn_px, len(colors))), (0, round(top * self._drawn_px)))

    def polygon(self, points: Sequence[Point], color: Color, ident: int = 0) -> None:
        """Fill a polygon, which belongs to object number ``ident`` (1..255) or to none (0)."""
        self._pen.polygon(_to_pixels(points, self._drawn_px), _to_ink(color))
        if ident:
            self._cover.polygon(_to_pixels(points, COVERAGE_PX), ident)

    def oval(self, box: Box, color: Color, ident: int = 0) -> None:
        """Fill the ellipse inscribed in a box (u0, v0, u1, v1)."""
        self._pen.ellipse(_to_pixel_box(box, self._drawn_px), _to_ink(color))
        if ident:
            self._cover.ellipse(_to_pixel_box(box, COVERAGE_PX), ident)

    def veil(self, points: Sequence[Point], color: Color, alpha: float) -> None:
        """Overlay a translucent polygon; ``alpha`` is its opacity, 0..1."""
        pen = ImageDraw.Draw(self._image, "RGBA")
        pen.polygon(_to_pixels(points, self._drawn_px), (*_to_ink(color), int(255 * alpha)))

    def mist(self, box: Box, color: Color, alpha: float, firmness: float = 1.0) -> None:
        """Overlay an ellipse whose opacity falls from ``alpha`` at the center to 0 at the rim.

        Args:
            box: Bounding box of the ellipse (u0, v0, u1, v1).
            color: Color.
            alpha: Opacity at the center, 0..1.
            firmness: Slope of the fall-off; above 1 the opacity stays at ``alpha`` in a disc around the center.
        """
        left, top, right, bottom = _to_pixel_box(box, self._drawn_px)
        size = right - left + 1, bottom - top + 1
        self._image.paste(
            _to_ink(color), (left, top), _mist_mask(alpha, firmness).resize(size, Image.Resampling.NEAREST)
        )

    def pixels(self) -> np.ndarray:
        """Return the finished image, uint8 [size_px, size_px, 3]."""
        return np.array(self._image.reduce(self._drawn_px // self.size_px))

    def seen(self) -> set[int]:
        """Return the numbers of all objects that are at least partly visible."""
        return set(np.flatnonzero(self._coverage.histogram()).tolist())


def _to_pixels(points: Sequence[Point], n: int) -> list[Point]:
    return [(u * n - 0.5, v * n - 0.5) for u, v in points]


def _to_pixel_box(box: Box, n: int) -> tuple[int, int, int, int]:
    left, top = round(box[0] * n), round(box[1] * n)
    return left, top, max(round(box[2] * n) - 1, left), max(round(box[3] * n) - 1, top)


def _to_ink(color: Color) -> tuple[int, int, int]:
    return int(color[0]), int(color[1]), int(color[2])


@functools.cache
def _mist_mask(alpha: float, firmness: float) -> Image.Image:
    offset = np.linspace(-1, 1, 256)
    depth = 1 - np.hypot(offset, offset[:, np.newaxis])
    return Image.fromarray(np.rint(255 * alpha * np.clip(firmness * depth, 0, 1)).astype(np.uint8))


class Item:
    """One object being drawn, in meters from its base: x to the right, y up, z away from the camera.

    Args:
        canvas: Canvas to draw on.
        ident: Number on the canvas, 1..255; 0 if it is not listed as an object.
        x: Position of the base across the road.
        z: Depth of the base.
        length: Extent along the road.
    """

    def __init__(self, canvas: Canvas, ident: int, x: float, z: float, length: float = 0.0) -> None:
        self.canvas = canvas
        self.light = canvas.light
        self.ident = ident
        self.x = x
        self.z = z
        self.length = length
        self.flank = -1 if x > canvas.camera.x_m else 1
        """The visible side: -1 for the left, +1 for the right."""
        self.flank_gain = 1.06 if self.flank == canvas.light.sun_side else 0.68
        """Brightness of that side."""
        self._clear = canvas.light.clear(z)
        self._corners: list[Point] = []

    def face(self, points: Sequence[Point3], color: Color, gain: float = 1.0) -> None:
        """Fill a polygon that is part of the object's outline."""
        corners = self._project(points)
        self._corners += corners
        self.canvas.polygon(corners, self.light.shade(color, self._clear, gain), self.ident)

    def detail(self, points: Sequence[Point3], color: Color, gain: float = 1.0, shines: bool = False) -> None:
        """Fill a polygon within the outline, which reflects light or, if it ``shines``, emits it."""
        shade = mix(self.light.haze, color, self._clear) if shines else self.light.shade(color, self._clear, gain)
        self.canvas.polygon(self._project(points), shade)

    def oval(self, x: float, y: float, rx: float, ry: float, color: Color, gain: float = 1.0) -> None:
        """Fill an upright ellipse around (x, y) with semi-axes ``rx`` and ``ry``."""
        corners = self._project([(x - rx, y + ry, 0), (x + rx, y - ry, 0)])
        self._corners += corners
        self.canvas.oval((*corners[0], *corners[1]), self.light.shade(color, self._clear, gain), self.ident)

    def lamp(self, x: float, y: float, radius: float, color: Color, halo: float = 0.0) -> None:
        """Draw a luminous disc and, if lamps are on, a halo of ``halo`` times its radius."""
        [(u, v)] = self._project([(x, y, 0)])
        r = radius * self.canvas.camera.focal / max(self.z, NEAR_M)
        if self.light.lamps_on and halo:
            self.canvas.mist(_around(u, v, r * halo), color, 0.6)
        self.canvas.oval(_around(u, v, r), color)

    def spot(self, x: float, rx: float, z0: float, z1: float, color: Color, alpha: float) -> None:
        """Tint an ellipse of ground around ``x`` from depth ``z0`` to ``z1``."""
        (u0, v1), (u1, v0) = self._project([(x - rx, 0, z0), (x + rx, 0, z1)])
        self.canvas.mist((u0, v0, u1, v1), color, alpha, firmness=1.8)

    def shadow(self, rx: float, z0: float, z1: float) -> None:
        """Darken the ground under the object and on the side away from the sun."""
        self.spot(-0.3 * self.light.sun_side * rx, 1.35 * rx, z0, z1, SHADOW, self.light.shadow)

    def extent(self) -> Box:
        """Return the bounding box (u0, v0, u1, v1) of the outline, which may extend beyond the image."""
        us, vs = zip(*self._corners, strict=True)
        return min(us), min(vs), max(us), max(vs)

    def _project(self, points: Sequence[Point3]) -> list[Point]:
        return self.canvas.camera.project(points, self.x, self.z)


def _around(u: float, v: float, radius: float) -> Box:
    return u - radius, v - radius, u + radius, v + radius
