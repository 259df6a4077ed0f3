"""Adaptive discriminator augmentation (ADA).

The transforms of Karras et al., "Training Generative Adversarial Networks with Limited Data" (arXiv 2006.06676), in the
order of the pseudocode in its appendix B. Each transform has one strength per image, which is 0 where the transform is
left out; so "applied with probability p" is the same for all of them: `_Draws.apply`.

N images, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from torch_utils import misc, persistence
from torch_utils.ops import conv2d_gradfix, grid_sample_gradfix, upfirdn2d

SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
"""Low-pass filter of the symlet with 6 vanishing moments (Daubechies, "Ten Lectures on Wavelets", section 8.1)."""

SYM2 = tuple(tap / math.sqrt(32) for tap in (1 - 3**0.5, 3 - 3**0.5, 3 + 3**0.5, 1 + 3**0.5))
"""The same with 2 vanishing moments (section 6.4)."""

BAND_POWER = tuple(share / 13 for share in (10, 1, 1, 1))
"""Expected power of the four frequency bands of a natural image, from the lowest (arXiv 2006.06676, appendix B)."""

REACH_PX = len(SYM6) // 4
"""How far SYM6 at double resolution reaches beyond a pixel, in pixels of the image."""

MATRIX_MAX_PX = 300
"""On a CPU, rows of at most this many pixels are resampled by a matrix product: more arithmetic than a convolution with
12 taps, but at many times the rate. The whole pipe takes a third of the time at 32 pixels and two thirds at 256."""

MARGIN_STEPS = 8
"""Elsewhere, opposite margins of the geometric transform add up to multiples of the image size divided by this, so that
shapes recur: each new one sends the memory allocator, and cuDNN's search for a fast algorithm, back to the start."""

MULTIPLIERS = (
    *("xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac"),
    *("brightness", "contrast", "lumaflip", "hue", "saturation", "imgfilter", "noise", "cutout"),
)
"""Arguments of `AugmentPipe` that are named like a transform."""

_GREY = np.full([3, 3], 1 / 3)
_CROSS = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
_COLOR_BASIS = np.stack([_GREY, np.eye(3) - _GREY, _CROSS]).reshape(3, 9)
"""The matrices P, I - P and K of `AugmentPipe._recolor`."""


@persistence.persistent_class
class AugmentPipe(torch.nn.Module):
    """Random differentiable transforms of a batch of images, each applied with probability ``multiplier * p``.

    An argument named like a transform is its multiplier: 0 switches the transform off, 1 applies it with probability
    ``p``. Buffer ``p`` [] starts at 1; the training loop sets it. It stays in main memory when the module moves: what
    happens to an image is decided there, and only the result travels to the device of the images.

    Args:
        xflip: Mirror left to right, in half of the cases.
        rotate90: Rotate by 0, 90, 180 or 270 degrees.
        xint: Shift by whole pixels.
        xint_max: Largest shift, as a fraction of the image size.
        scale: Scale both axes alike.
        rotate: Rotate by any angle.
        aniso: Stretch one axis as much as the other shrinks.
        xfrac: Shift by fractions of pixels.
        scale_std: Standard deviation of log2 of the scale.
        rotate_max: Largest angle, as a fraction of 180 degrees.
        aniso_std: Standard deviation of log2 of the stretch.
        xfrac_std: Standard deviation of the shift, as a fraction of the image size.
        brightness: Add a constant.
        contrast: Scale the values about 0.
        lumaflip: Reverse light and dark but keep the colors, in half of the cases.
        hue: Rotate the colors about the grey axis.
        saturation: Scale the distance from the grey axis.
        brightness_std: Standard deviation of the constant; images lie in [-1, 1].
        contrast_std: Standard deviation of log2 of the contrast.
        hue_max: Largest angle, as a fraction of 180 degrees.
        saturation_std: Standard deviation of log2 of the saturation.
        imgfilter: Amplify or damp frequency bands.
        imgfilter_bands: Multipliers of the four bands, from the lowest; they multiply ``imgfilter``.
        imgfilter_std: Standard deviation of log2 of a band's gain.
        noise: Add white noise.
        cutout: Erase a box.
        noise_std: Standard deviation of the (half-normal) standard deviation of the noise.
        cutout_size: Sides of the box, as a fraction of the image size.

    Raises:
        ValueError: A multiplier is negative, or ``imgfilter_bands`` are not four.
    """

    p: torch.Tensor
    Hz_geom: torch.Tensor
    Hz_fbank: torch.Tensor

    def __init__(
        self,
        xflip: float = 0,
        rotate90: float = 0,
        xint: float = 0,
        xint_max: float = 0.125,
        scale: float = 0,
        rotate: float = 0,
        aniso: float = 0,
        xfrac: float = 0,
        scale_std: float = 0.2,
        rotate_max: float = 1,
        aniso_std: float = 0.2,
        xfrac_std: float = 0.125,
        brightness: float = 0,
        contrast: float = 0,
        lumaflip: float = 0,
        hue: float = 0,
        saturation: float = 0,
        brightness_std: float = 0.2,
        contrast_std: float = 0.5,
        hue_max: float = 1,
        saturation_std: float = 1,
        imgfilter: float = 0,
        imgfilter_bands: Sequence[float] = [1, 1, 1, 1],
        imgfilter_std: float = 1,
        noise: float = 0,
        cutout: float = 0,
        noise_std: float = 0.1,
        cutout_size: float = 0.5,
    ) -> None:
        super().__init__()
        self.xflip, self.rotate90, self.xint, self.xint_max = xflip, rotate90, xint, xint_max
        self.scale, self.rotate, self.aniso, self.xfrac = scale, rotate, aniso, xfrac
        self.scale_std, self.rotate_max, self.aniso_std, self.xfrac_std = scale_std, rotate_max, aniso_std, xfrac_std
        self.brightness, self.contrast, self.lumaflip = brightness, contrast, lumaflip
        self.hue, self.saturation = hue, saturation
        self.brightness_std, self.contrast_std = brightness_std, contrast_std
        self.hue_max, self.saturation_std = hue_max, saturation_std
        self.imgfilter, self.imgfilter_bands, self.imgfilter_std = imgfilter, list(imgfilter_bands), imgfilter_std
        self.noise, self.noise_std = noise, noise_std
        self.cutout, self.cutout_size = cutout, cutout_size
        for name in MULTIPLIERS:
            if not getattr(self, name) >= 0:
                raise ValueError(f"AugmentPipe: {name} must be a number >= 0, got {getattr(self, name)}")
        if len(imgfilter_bands) != len(BAND_POWER) or not all(band >= 0 for band in imgfilter_bands):
            raise ValueError(f"AugmentPipe: imgfilter_bands must be four numbers >= 0, got {list(imgfilter_bands)}")
        self.register_buffer("p", torch.ones([], device="cpu"))
        self.register_buffer("Hz_geom", upfirdn2d.setup_filter(SYM6))
        self.register_buffer("Hz_fbank", torch.as_tensor(_octave_bands(SYM2), dtype=torch.float32))

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], *args: Any, **kwargs: Any) -> AugmentPipe:
        p = self.p
        super()._apply(fn, *args, **kwargs)
        self.p = p.to(self.Hz_geom.dtype)
        return self

    def forward(self, images: torch.Tensor, debug_percentile: float | None = None) -> torch.Tensor:
        """Transform each image on its own; the host never waits for the device of the images.

        Random numbers come from torch's generator of the CPU, the pixels of the noise from that of the device; how many
        depends only on the constructor's arguments and the shape of ``images``.

        Args:
            images: ``[N, C, H, W]`` in [-1, 1] with 1 or 3 channels, of the pipe's dtype (float32).
            debug_percentile: In [0, 1]: apply every transform whose multiplier is not 0, with this quantile of each
                distribution in place of a random number. Only the pixels of the noise stay random. Normal distributions
                have half their variance here and the second rotation is left out, as in StyleGAN2-ADA.

        Returns:
            Images like ``images``, not clamped; differentiable with respect to them to any order.

        Raises:
            ValueError: The shape, dtype or percentile is not as above, or images are too small for ``imgfilter``.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"AugmentPipe: images must be [N, C, H, W] with C = 1 or 3, got {list(images.shape)}")
        if images.dtype != self.p.dtype:
            raise ValueError(f"AugmentPipe: images must be {self.p.dtype} as the pipe, got {images.dtype}")
        if debug_percentile is not None and not 0 <= debug_percentile <= 1:
            raise ValueError(f"AugmentPipe: debug_percentile must lie in [0, 1], got {debug_percentile}")
        if images.numel() == 0:
            return images
        draws = _Draws(images, debug_percentile)
        images = self._transform_geometry(images, draws)
        images = self._recolor(images, draws)
        images = self._filter_bands(images, draws)
        images = self._add_noise(images, draws)
        return self._cut_out(images, draws)

    def _transform_geometry(self, images: torch.Tensor, draws: _Draws) -> torch.Tensor:
        transforms = list(self._inverse_geometry(draws, *images.shape[2:]))
        return _warp(images, reduce(torch.matmul, transforms), self.Hz_geom) if transforms else images

    def _inverse_geometry(self, draws: _Draws, height: int, width: int) -> Iterator[torch.Tensor]:
        """Yield the inverse of each transform ``[N, 3, 3]``, in pixels from the center: x_in = product @ x_out."""
        p = self.p
        size = misc.constant([width, height], dtype=p.dtype, device=p.device)
        if self.xflip > 0:
            flip = draws.apply(self.xflip * p, draws.integer(2))
            yield _scaling(1 - 2 * flip, torch.ones_like(flip))
        if self.rotate90 > 0:
            turns = draws.apply(self.rotate90 * p, draws.integer(4))
            yield _rotation(turns * (math.pi / 2))
        if self.xint > 0:
            shift = draws.apply(self.xint * p, (draws.uniform(2) * 2 - 1) * self.xint_max)
            yield _translation(-(shift * size).round())
        if self.scale > 0:
            shrink = torch.exp2(-draws.apply(self.scale * p, draws.normal() * self.scale_std))
            yield _scaling(shrink, shrink)
        # Two rotations, so that the stretch between them gets any direction; together they are applied with rotate * p.
        p_rotate = 1 - (1 - self.rotate * p).clamp(min=0).sqrt()
        if self.rotate > 0:
            yield _rotation(draws.apply(p_rotate, draws.angle() * self.rotate_max))
        if self.aniso > 0:
            shrink = torch.exp2(-draws.apply(self.aniso * p, draws.normal() * self.aniso_std))
            yield _scaling(shrink, 1 / shrink)
        if self.rotate > 0 and draws.percentile is None:
            yield _rotation(draws.apply(p_rotate, draws.angle() * self.rotate_max))
        if self.xfrac > 0:
            shift = draws.apply(self.xfrac * p, draws.normal(2) * self.xfrac_std)
            yield _translation(-shift * size)

    def _recolor(self, images: torch.Tensor, draws: _Draws) -> torch.Tensor:
        """Apply the color transforms as one affine map.

        All but the offset scale the grey axis (``luma``) or scale and rotate the plane across it (``chroma``, ``hue``),
        hence commute: ``luma * P + chroma * (cos(hue) * (I - P) + sin(hue) * K)``, where P projects on the grey axis
        and K is the cross product with it. Images with one channel have no chroma.
        """
        p = self.p
        if self.brightness + self.contrast + self.lumaflip + self.hue + self.saturation == 0:
            return images
        luma = chroma = p.new_ones(images.shape[0])
        offset = hue = torch.zeros_like(luma)
        if self.brightness > 0:
            offset = draws.apply(self.brightness * p, draws.normal() * self.brightness_std)
        if self.contrast > 0:
            luma = chroma = torch.exp2(draws.apply(self.contrast * p, draws.normal() * self.contrast_std))
        if self.lumaflip > 0:
            luma = luma * (1 - 2 * draws.apply(self.lumaflip * p, draws.integer(2)))
        if self.hue > 0:
            hue = draws.apply(self.hue * p, draws.angle() * self.hue_max)
        if self.saturation > 0:
            chroma = chroma * torch.exp2(draws.apply(self.saturation * p, draws.normal() * self.saturation_std))
        if images.shape[1] == 1:
            offset, luma = _send(torch.stack([offset, luma])[:, :, None, None, None], images.device)
            return (images + offset) * luma
        basis = misc.constant(_COLOR_BASIS, dtype=p.dtype, device=p.device)
        coefficients = torch.stack([luma, chroma * hue.cos(), chroma * hue.sin()], dim=1)
        matrices = (coefficients @ basis).reshape(-1, 3, 3)
        shifts = (luma * offset)[:, None, None].expand(-1, 3, 1)
        matrices, shifts = _send(torch.cat([matrices, shifts], dim=2), images.device).split([3, 1], dim=2)
        return torch.baddbmm(shifts, matrices, images.flatten(2)).reshape(images.shape)

    def _filter_bands(self, images: torch.Tensor, draws: _Draws) -> torch.Tensor:
        """Amplify each frequency band on its own, then restore the expected power of the image."""
        if self.imgfilter == 0:
            return images
        height, width = images.shape[2:]
        reach = self.Hz_fbank.shape[1] // 2
        if min(height, width) <= reach:
            raise ValueError(f"AugmentPipe: imgfilter needs images of more than {reach} pixels, got {height} x {width}")
        log2_gains = [
            draws.apply(self.imgfilter * band * self.p, draws.normal() * (self.imgfilter_std * (band > 0)))
            for band in self.imgfilter_bands
        ]
        # Row i: the gains of all bands after amplifying band i alone and restoring the power of the image.
        gains = torch.exp2(torch.diag_embed(torch.stack(log2_gains, dim=1)))  # [N, 4, 4]
        power = misc.constant(BAND_POWER, dtype=gains.dtype, device=gains.device)
        gains = gains / (power * gains.square()).sum(dim=2, keepdim=True).sqrt()
        taps = gains.prod(dim=1) @ self.Hz_fbank
        if not _are_on_cpu(images):
            return _filter_each(images, taps)
        rows, columns = _filter_matrices(taps, width), _filter_matrices(taps, height)
        return columns.transpose(2, 3) @ (images @ rows)

    def _add_noise(self, images: torch.Tensor, draws: _Draws) -> torch.Tensor:
        if self.noise == 0:
            return images
        std = draws.apply(self.noise * self.p, draws.half_normal() * self.noise_std)
        return images + torch.randn_like(images) * _send(std[:, None, None, None], images.device)

    def _cut_out(self, images: torch.Tensor, draws: _Draws) -> torch.Tensor:
        if self.cutout == 0:
            return images
        num_images, _, height, width = images.shape
        size = draws.apply(self.cutout * self.p, self.p.new_full([num_images], self.cutout_size))[:, None]
        center_x, center_y = draws.uniform(2)[:, :, None].unbind(1)
        x = (torch.arange(width, device=size.device) + 0.5) / width
        y = (torch.arange(height, device=size.device) + 0.5) / height
        outside = torch.cat([(x - center_x).abs() >= size / 2, (y - center_y).abs() >= size / 2], dim=1)
        outside_x, outside_y = _send(outside, images.device).split([width, height], dim=1)
        return images * (outside_x[:, None, None, :] | outside_y[:, None, :, None])


class _Draws:
    """Random numbers for a batch, or one quantile of their distribution for all images; ``dims`` of them per image."""

    def __init__(self, images: torch.Tensor, percentile: float | None) -> None:
        self.num_images, self.dtype = images.shape[0], images.dtype
        # A normal distribution has no finite quantile at 0 and 1 themselves.
        self.percentile = None if percentile is None else min(max(float(percentile), 1e-7), 1 - 1e-7)

    def uniform(self, *dims: int) -> torch.Tensor:
        """Draw from U(0, 1)."""
        if self.percentile is not None:
            return self._full(self.percentile, dims)
        return torch.rand([self.num_images, *dims], dtype=self.dtype, device="cpu")

    def normal(self, *dims: int) -> torch.Tensor:
        """Draw from N(0, 1)."""
        if self.percentile is not None:
            return self._full(_erfinv(2 * self.percentile - 1), dims)
        return torch.randn([self.num_images, *dims], dtype=self.dtype, device="cpu")

    def integer(self, num: int) -> torch.Tensor:
        """Draw from 0 .. num - 1."""
        return (self.uniform() * num).floor()

    def angle(self) -> torch.Tensor:
        """Draw from U(-pi, pi)."""
        return (self.uniform() * 2 - 1) * math.pi

    def half_normal(self) -> torch.Tensor:
        """Draw from |N(0, 1)|."""
        return self.normal().abs() if self.percentile is None else self._full(_erfinv(self.percentile), ())

    def apply(self, probability: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Keep the values of an image with the given probability and set them to 0 otherwise."""
        if self.percentile is not None:
            return values
        left_out = self.uniform(*[1] * (values.ndim - 1)) >= probability
        return values.masked_fill(left_out, 0)

    def _full(self, value: float, dims: Sequence[int]) -> torch.Tensor:
        return torch.full([self.num_images, *dims], value, dtype=self.dtype, device="cpu")


def _erfinv(x: float) -> float:
    return float(torch.erfinv(torch.tensor(x, dtype=torch.float64)))


def _scaling(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Scale by factors [N] per axis."""
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))


def _rotation(angle: torch.Tensor) -> torch.Tensor:
    """Rotate by [N] radians, from the x axis to the y axis."""
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], dim=1).reshape(-1, 3, 3)


def _translation(shift: torch.Tensor) -> torch.Tensor:
    """Move by [N, 2] pixels."""
    matrix = torch.eye(3, dtype=shift.dtype, device=shift.device).repeat(len(shift), 1, 1)
    matrix[:, :2, 2] = shift
    return matrix


def _send(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy to another device in the order of its work; the host does not wait."""
    if device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def _are_on_cpu(images: torch.Tensor) -> bool:
    """Return whether matrix products and the smallest margins pay; on a GPU few launches and few shapes do."""
    return images.device.type == "cpu"


def _warp(images: torch.Tensor, inverse: torch.Tensor, lowpass: torch.Tensor) -> torch.Tensor:
    """Sample mirrored images at ``inverse @ position``, bilinearly at double resolution.

    Args:
        images: ``[N, C, H, W]``.
        inverse: ``[N, 3, 3]`` on the CPU, output to input positions in pixels from the image center.
        lowpass: Orthogonal wavelet filter ``[12]`` for both changes of resolution, so the identity changes nothing.
    """
    if (inverse == torch.eye(3, dtype=inverse.dtype)).all():
        return images
    height, width = images.shape[2:]
    margins = _margins(inverse, height, width)
    if not _are_on_cpu(images):
        margins = _rounded_up(margins, height, width)
    theta = _sampling_map(inverse, height, width, margins)
    grid = _affine_grid(theta, 2 * (height + 2 * REACH_PX), 2 * (width + 2 * REACH_PX), images)
    images = grid_sample_gradfix.grid_sample(_double(images, lowpass, margins), grid)
    return _halve(images, lowpass).contiguous()


class Margins(NamedTuple):
    """Pixels to add on each side."""

    left: int
    right: int
    top: int
    bottom: int


def _margins(inverse: torch.Tensor, height: int, width: int) -> Margins:
    """Return how many pixels beyond the images ``inverse`` needs."""
    x, y = (width - 1) / 2, (height - 1) / 2
    corners = misc.constant([[-x, x, -x, x], [-y, -y, y, y], [1, 1, 1, 1]], dtype=inverse.dtype)
    half = misc.constant([[x], [y]], dtype=inverse.dtype)
    sampled = (inverse @ corners)[:, :2]  # [N, axis, corner]
    beyond = torch.stack([-sampled.amin(dim=[0, 2]), sampled.amax(dim=[0, 2])], dim=1) - half  # [axis, side]
    # Mirroring works for up to size - 1 pixels; what lies further out is 0.
    left, right, top, bottom = (beyond + 2 * REACH_PX).ceil().clamp(min=0).minimum(2 * half).flatten().tolist()
    return Margins(int(left), int(right), int(top), int(bottom))


def _rounded_up(margins: Margins, height: int, width: int) -> Margins:
    """Make the sums of opposite margins multiples of a fraction of the image, as far as mirroring allows."""

    def round_up(first: int, second: int, size: int) -> tuple[int, int]:
        step = -(-size // MARGIN_STEPS)
        total = min(-(-(first + second) // step) * step, 2 * (size - 1))
        second = min(total - first, size - 1)
        return total - second, second

    left, right, top, bottom = margins
    return Margins(*round_up(left, right, width), *round_up(top, bottom, height))


def _sampling_map(inverse: torch.Tensor, height: int, width: int, margins: Margins) -> torch.Tensor:
    """Return the map ``[N, 2, 3]`` from positions in the result to positions in the doubled images.

    Both in the units of ``affine_grid``: -1 and 1 are the borders. The result has `REACH_PX` more pixels on each side.
    """
    left, right, top, bottom = margins
    in_width, in_height = 2 * (width + left + right), 2 * (height + top + bottom)
    out_width, out_height = 2 * (width + 2 * REACH_PX), 2 * (height + 2 * REACH_PX)
    # SYM6 leaves pixel i at 2i, which is half a pixel before the middle of the pixels 2i and 2i + 1.
    to_pixels = misc.constant([[out_width / 4, 0, 0.25], [0, out_height / 4, 0.25], [0, 0, 1]], dtype=inverse.dtype)
    x, y, one = (inverse @ to_pixels).unbind(dim=1)
    x = (4 * x + (2 * (left - right) - 1) * one) / in_width
    y = (4 * y + (2 * (top - bottom) - 1) * one) / in_height
    return torch.stack([x, y], dim=1)


def _affine_grid(theta: torch.Tensor, height: int, width: int, images: torch.Tensor) -> torch.Tensor:
    """Return ``affine_grid`` [N, H, W, 2] on the device of the images; on a GPU by one launch instead of eight."""
    if _are_on_cpu(images):
        return functional.affine_grid(theta, [len(theta), 1, height, width], align_corners=False)
    x, y = ((torch.arange(size, dtype=theta.dtype) * 2 + 1) / size - 1 for size in (width, height))
    by_x, by_y, offset = theta.split(1, dim=2)
    # A position is a part for its column plus one for its row. As complex numbers both coordinates are added at once.
    parts = torch.complex(*torch.cat([by_x * x, by_y * y + offset], dim=2).unbind(dim=1))
    columns, rows = _send(parts, images.device).split([width, height], dim=1)
    return torch.view_as_real(columns[:, None, :] + rows[:, :, None])


def _double(images: torch.Tensor, lowpass: torch.Tensor, margins: Margins) -> torch.Tensor:
    """Mirror the borders outwards and double the resolution."""
    left, right, top, bottom = margins
    if not _are_on_cpu(images):
        return upfirdn2d.upsample2d(functional.pad(images, margins, mode="reflect"), lowpass)
    return _map_axes(
        images,
        lambda rows: _double_rows(rows, lowpass, left, right),
        lambda columns: _double_rows(columns, lowpass, top, bottom),
    )


def _halve(images: torch.Tensor, lowpass: torch.Tensor) -> torch.Tensor:
    """Halve the resolution and drop the pixels that only the filter needed."""
    if not _are_on_cpu(images):
        return upfirdn2d.downsample2d(images, lowpass, padding=-2 * REACH_PX, flip_filter=True)
    return _map_axes(images, lambda rows: _halve_rows(rows, lowpass), lambda columns: _halve_rows(columns, lowpass))


def _map_axes(
    images: torch.Tensor,
    map_rows: Callable[[torch.Tensor], torch.Tensor],
    map_columns: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Apply linear maps of rows ``[..., W]`` to the rows and to the columns of images."""
    images = _map_rows(images, map_rows)
    return _map_rows(images.transpose(2, 3), map_columns).transpose(2, 3)


def _map_rows(images: torch.Tensor, linear_map: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Apply a linear map of rows, as a matrix if they are short: the map of the unit vectors."""
    width = images.shape[3]
    if width > MATRIX_MAX_PX:
        return linear_map(images)
    identity = torch.eye(width, dtype=images.dtype, device=images.device)
    return images @ linear_map(identity[None, None])[0, 0]


def _double_rows(images: torch.Tensor, lowpass: torch.Tensor, left: int, right: int) -> torch.Tensor:
    images = functional.pad(images, [left, right, 0, 0], mode="reflect")
    return upfirdn2d.upsample2d(images, lowpass[None, :], up=[2, 1])


def _halve_rows(images: torch.Tensor, lowpass: torch.Tensor) -> torch.Tensor:
    crop = -2 * REACH_PX
    return upfirdn2d.downsample2d(images, lowpass[None, :], down=[2, 1], padding=[crop, 0], flip_filter=True)


def _filter_each(images: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """Filter rows and columns of each image with its own symmetric ``taps`` [N, T] and mirrored borders."""
    num_images, channels, height, width = images.shape
    reach = taps.shape[1] // 2
    kernels = _send(taps.repeat_interleave(channels, dim=0)[:, None, None, :], images.device)  # [N * C, 1, 1, T]
    planes = functional.pad(images, [reach] * 4, mode="reflect").flatten(0, 1)[None]
    planes = conv2d_gradfix.conv2d(planes, kernels, groups=num_images * channels)
    planes = conv2d_gradfix.conv2d(planes, kernels.transpose(2, 3), groups=num_images * channels)
    return planes.reshape(num_images, channels, height, width)


def _filter_matrices(taps: torch.Tensor, size: int) -> torch.Tensor:
    """Return matrices ``[N, 1, size, size]`` that filter rows with symmetric ``taps`` [N, T] and mirrored ends."""
    identity = torch.eye(size, dtype=taps.dtype, device=taps.device)[None, None]
    reach = taps.shape[1] // 2
    padded = functional.pad(identity, [reach, reach, 0, 0], mode="reflect")
    return functional.conv2d(padded, taps[:, None, None, :]).transpose(0, 1)


def _octave_bands(lowpass: Sequence[float]) -> np.ndarray:
    """Split the spectrum into four bands, each of twice the width of the one below.

    Args:
        lowpass: Orthogonal wavelet filter; its autocorrelation and the rest to the unit impulse are the two half bands.

    Returns:
        ``[4, T]`` symmetric filters from the lowest band; their sum is the unit impulse.
    """
    half_band = np.convolve(lowpass, lowpass[::-1]) / 2
    bands = np.ones([1, 1])
    while len(bands) < len(BAND_POWER):
        stretched = np.zeros([len(bands), 2 * bands.shape[1] - 1])
        stretched[:, ::2] = bands
        bands = np.stack([np.convolve(band, half_band) for band in stretched])
        impulse = np.eye(1, bands.shape[1], bands.shape[1] // 2)
        bands = np.concatenate([bands, impulse - bands.sum(axis=0)])
    return bands
