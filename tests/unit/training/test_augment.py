from __future__ import annotations

import math
import pickle
from functools import reduce

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from tests.helpers import Case, assert_close, case_id, golden_cases
from training import augment
from training.augment import AugmentPipe

BLIT = {"xflip": 1, "rotate90": 1, "xint": 1}
GEOM = {"scale": 1, "rotate": 1, "aniso": 1, "xfrac": 1}
COLOR = {"brightness": 1, "contrast": 1, "lumaflip": 1, "hue": 1, "saturation": 1}
BGC = BLIT | GEOM | COLOR
ALL = BGC | {"imgfilter": 1, "noise": 1, "cutout": 1}

NUM_DRAWS = 20_000
P = 0.3
SIGMAS = 4.5
"""How many standard errors an estimate may be off; the seeds are fixed."""


@pytest.fixture(params=["cpu", "elsewhere"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Computes as on a CPU, or as on other devices: by convolutions, with margins out of few."""
    if request.param == "elsewhere":
        monkeypatch.setattr(augment, "_are_on_cpu", lambda images: False)
    return request.param


def make_pipe(p: float = 1.0, **kwargs) -> AugmentPipe:
    pipe = AugmentPipe(**kwargs)
    pipe.p.fill_(p)
    return pipe


def make_images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(7)) * 2 - 1


def run(pipe: AugmentPipe, images: torch.Tensor, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return pipe(images)


def geometry(pipe: AugmentPipe, width: int = 40, height: int = 24) -> np.ndarray:
    """Draw NUM_DRAWS matrices [3, 3] that map output to input positions."""
    torch.manual_seed(0)
    draws = augment._Draws(torch.empty(NUM_DRAWS, 1, 1, 1), None)
    return reduce(torch.matmul, pipe._inverse_geometry(draws, height, width)).double().numpy()


def colors(pipe: AugmentPipe) -> tuple[np.ndarray, np.ndarray]:
    """Draw NUM_DRAWS color maps ([3, 3], [3]): what the pipe does to black and to the three unit colors."""
    points = torch.cat([torch.zeros(3, 1), torch.eye(3)], dim=1)[None, :, None, :]  # [1, 3, 1, 4]
    mapped = run(pipe, points.repeat(NUM_DRAWS, 1, 1, 1))[:, :, 0].double().numpy()
    return mapped[:, :, 1:] - mapped[:, :, :1], mapped[:, :, 0]


def assert_share(mask: np.ndarray, expected: float) -> None:
    error = abs(np.mean(mask) - expected) / math.sqrt(expected * (1 - expected) / len(mask))
    assert error < SIGMAS, f"share {np.mean(mask)}, expected {expected}"


def assert_distributed(samples: np.ndarray, distribution: stats.distributions.rv_frozen) -> None:
    assert len(samples) > 1000
    assert stats.kstest(samples, distribution.cdf).pvalue > 1e-5


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("case", list(golden_cases("augment")), ids=case_id)
def test_matches_the_golden_arrays(case: Case) -> None:
    args, arrays = case
    pipe = AugmentPipe(**args["spec"])
    assert_close(pipe(torch.from_numpy(arrays["x"]), debug_percentile=args["percentile"]), arrays["y"])


def warp_oracle(image: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Warp one channel [H, W] as the paper says, with the largest margins; pixel i lies at 2i after doubling."""
    size = np.array(image.shape)
    lowpass = np.array(augment.SYM6) / math.sqrt(2)

    def along_both(array, fn):
        return np.apply_along_axis(fn, 1, np.apply_along_axis(fn, 0, array))

    def double(row):
        return np.convolve(np.stack([row, 0 * row], axis=1).ravel(), 2 * lowpass)[5 : 5 + 2 * len(row)]

    def halve(row):
        return np.correlate(row, lowpass)[1:-1:2]

    doubled = along_both(np.pad(image, [(n - 1, n - 1) for n in size], mode="reflect"), double)
    center = (size - 1) / 2
    y, x = np.meshgrid(*(np.arange(-6, 2 * n + 6) / 2 - c for n, c in zip(size, center, strict=True)), indexing="ij")
    x_in, y_in, _ = np.tensordot(inverse, np.stack([x, y, np.ones_like(x)]), axes=1)
    positions = [2 * (y_in + center[0] + size[0] - 1), 2 * (x_in + center[1] + size[1] - 1)]
    return along_both(ndimage.map_coordinates(doubled, positions, order=1, mode="grid-constant"), halve)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (12, 21), (23, 10)])
@pytest.mark.parametrize("stretch", [0.5, 1.0, 2.5])
@pytest.mark.usefixtures("place")
def test_warp_matches_its_definition(height: int, width: int, stretch: float) -> None:
    images = make_images(2, 3, height, width)
    inverse = torch.eye(3).repeat(2, 1, 1)
    inverse[0, :2] = stretch * torch.tensor([[0.8, 0.7, 0.6], [-0.5, 1.1, -2.3]])
    inverse[1, :2] = stretch * torch.tensor([[-1.2, 0.1, 3.5], [0.2, -0.9, 0.25]])
    warped = augment._warp(images, inverse, AugmentPipe().Hz_geom)
    for image, matrix, result in zip(images, inverse, warped, strict=True):
        for channel in range(3):
            expected = warp_oracle(image[channel].double().numpy(), matrix.double().numpy())
            # The margins cover the filter at the scale of the image; beyond lie its small outer taps.
            assert_close(result[channel], expected, rel=1e-5 if stretch <= 1 else 1e-3)


def test_matrix_and_convolution_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, images = AugmentPipe(**BLIT, **GEOM), make_images(3, 3, 18, 25)
    by_matrix = run(pipe, images)
    monkeypatch.setattr(augment, "MATRIX_MAX_PX", 0)
    assert_close(run(pipe, images), by_matrix)


@pytest.mark.parametrize("p", [0.3, 1.0])
@pytest.mark.parametrize("shape", [(3, 3, 24, 41), (3, 1, 23, 22)])
def test_all_devices_do_the_same(shape: tuple[int, ...], p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, images = make_pipe(p, **ALL), make_images(*shape)
    on_cpu = run(pipe, images)
    monkeypatch.setattr(augment, "_are_on_cpu", lambda images: False)
    # Beyond the smallest margins lie small outer taps, as in the test of the warp.
    assert_close(run(pipe, images), on_cpu, rel=1e-3)


def test_padded_sizes_are_out_of_few() -> None:
    """So that shapes recur."""
    sizes = set()
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        margins = tuple(int(margin) for margin in rng.integers(0, [64, 64, 32, 32]))
        rounded = augment._rounded_up(margins, height=32, width=64)
        assert (np.array(rounded) >= margins).all()
        assert (np.array(rounded) < [64, 64, 32, 32]).all()
        total_x, total_y = sum(rounded[:2]), sum(rounded[2:])
        assert total_x - sum(margins[:2]) < 8
        assert total_y - sum(margins[2:]) < 4
        sizes.add((total_x, total_y))
    assert {x for x, _ in sizes} <= {*range(0, 128, 8), 126}
    assert {y for _, y in sizes} <= {*range(0, 64, 4), 62}
    assert augment._rounded_up((0, 0, 3, 0), height=5, width=1) == (0, 0, 3, 0)
    assert augment._rounded_up((62, 63, 3, 2), height=32, width=64) == (63, 63, 3, 5)


def test_nothing_is_read_from_the_device_of_the_images() -> None:
    """The meta device has nothing to read. Decisions, and ``p``, stay in main memory."""
    pipe = make_pipe(0.3, **ALL).to("meta")
    assert (pipe.p.device.type, pipe.p.item(), pipe.Hz_geom.device.type) == ("cpu", pytest.approx(0.3), "meta")
    images = torch.empty([4, 3, 24, 32], device="meta", requires_grad=True)
    result = run(pipe, images)
    assert (result.shape, result.device.type) == (images.shape, "meta")
    (grad,) = torch.autograd.grad(result.square().sum(), images, create_graph=True)
    grad.square().sum().backward()
    assert images.grad is not None
    assert pipe.double().p.dtype == torch.float64


@pytest.mark.gpu
def test_a_gpu_does_the_same_and_is_not_waited_for() -> None:
    pipe, images = make_pipe(0.5, **(ALL | {"noise": 0})), make_images(8, 3, 32, 48)
    expected = run(pipe, images)
    images, pipe = images.cuda(), pipe.cuda()
    run(pipe, images)
    torch.cuda.set_sync_debug_mode("error")
    try:
        result = run(pipe, images)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_close(result, expected, rel=1e-3)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("multipliers", [BLIT, GEOM, BGC])
@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (2, 1, 2, 5), (1, 3, 9, 3)])
def test_any_size_works(shape: tuple[int, ...], multipliers: dict[str, float]) -> None:
    result = run(AugmentPipe(**multipliers), make_images(*shape))
    assert result.shape == shape
    assert result.isfinite().all()


def test_memory_format_of_the_input_does_not_matter() -> None:
    images = make_images(2, 3, 24, 24)
    expected = run(AugmentPipe(**ALL), images)
    for variant in (images.contiguous(memory_format=torch.channels_last), images.transpose(2, 3).contiguous().mT):
        assert not variant.is_contiguous()
        assert_close(run(AugmentPipe(**ALL), variant), expected)


def test_empty_batch() -> None:
    assert AugmentPipe(**ALL)(torch.empty(0, 3, 32, 32)).shape == (0, 3, 32, 32)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("channels", [1, 3])
def test_p_0_is_the_identity(channels: int) -> None:
    images = make_images(4, channels, 24, 32)
    without_filter = ALL | {"imgfilter": 0}
    assert torch.equal(run(make_pipe(p=0, **without_filter), images), images)
    assert_close(run(make_pipe(p=0, **ALL), images), images, rel=1e-6)  # its four bands add up to 1 +- rounding


def test_no_multipliers_is_the_identity() -> None:
    images = make_images(4, 3, 24, 32)
    assert AugmentPipe()(images) is images
    assert AugmentPipe()(images, debug_percentile=0.9) is images


def test_images_are_independent() -> None:
    images = make_images(4, 3, 24, 24)
    others = images.clone()
    others[1] = -2
    results, other_results = run(AugmentPipe(**ALL), images), run(AugmentPipe(**ALL), others)
    assert torch.equal(results[[0, 2, 3]], other_results[[0, 2, 3]])
    assert not torch.equal(results[1], other_results[1])


def test_images_of_a_batch_get_different_transforms() -> None:
    images = make_images(1, 3, 24, 24).repeat(2, 1, 1, 1)
    for name in ALL:
        # Flips of two images may agree.
        batch = images.repeat(8, 1, 1, 1)
        assert (run(AugmentPipe(**{name: 1}), batch).std(dim=0) > 0.01).any(), name


def test_grey_images_get_the_colors_of_grey_rgb_images() -> None:
    grey = make_images(6, 1, 24, 24)
    as_rgb = run(AugmentPipe(**BGC), grey.repeat(1, 3, 1, 1))
    assert_close(as_rgb, run(AugmentPipe(**BGC), grey).repeat(1, 3, 1, 1))


def test_seed_decides() -> None:
    pipe, images = AugmentPipe(**ALL), make_images(4, 3, 24, 24)
    assert torch.equal(run(pipe, images, seed=3), run(pipe, images, seed=3))
    assert not torch.equal(run(pipe, images, seed=3), run(pipe, images, seed=4))


def test_random_numbers_used_do_not_depend_on_p_or_the_images() -> None:
    states = []
    for p, images in (
        (0.0, make_images(4, 3, 24, 24)),
        (0.4, torch.zeros(4, 3, 24, 24)),
        (1.0, make_images(4, 3, 24, 24)),
    ):
        run(make_pipe(p, **ALL), images)
        states.append(torch.get_rng_state())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


def test_xflip() -> None:
    matrices = geometry(make_pipe(P, xflip=1))
    flipped = matrices[:, 0, 0] < 0
    assert_share(flipped, P / 2)
    assert_close(matrices[flipped], np.broadcast_to(np.diag([-1, 1, 1]), matrices[flipped].shape))


def test_rotate90() -> None:
    matrices = geometry(make_pipe(P, rotate90=1))
    turns = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0])).round(3)
    for angle in (90, -90):
        assert_share(turns == angle, P / 4)
    assert_share(abs(turns) == 180, P / 4)
    assert_share(turns == 0, 1 - P * 3 / 4)


def test_xint() -> None:
    shifts = geometry(make_pipe(P, xint=1, xint_max=0.25), width=40, height=24)[:, :2, 2]
    assert_close(shifts, shifts.round())
    for axis, largest in ((0, 10), (1, 6)):
        assert np.abs(shifts[:, axis]).max() == largest
        assert_share(shifts[:, axis] == 3, P / (2 * largest))
        assert_share(shifts[:, axis] == largest, P / (4 * largest))  # rounding leaves half a bin at the ends
        assert_share(shifts[:, axis] == -3, P / (2 * largest))
    assert abs(np.corrcoef(shifts[(shifts != 0).all(axis=1)].T)[0, 1]) < 0.1


def test_scale() -> None:
    matrices = geometry(make_pipe(P, scale=1))
    log2_scale = -np.log2(matrices[:, 0, 0])
    assert_share(log2_scale != 0, P)
    assert_distributed(log2_scale[log2_scale != 0], stats.norm(0, 0.2))
    assert_close(matrices[:, 1, 1], matrices[:, 0, 0])


def test_aniso() -> None:
    matrices = geometry(make_pipe(P, aniso=1, aniso_std=0.4))
    log2_stretch = -np.log2(matrices[:, 0, 0])
    assert_share(log2_stretch != 0, P)
    assert_distributed(log2_stretch[log2_stretch != 0], stats.norm(0, 0.4))
    assert_close(np.linalg.det(matrices), np.ones(NUM_DRAWS))


def test_rotate() -> None:
    matrices = geometry(make_pipe(P, rotate=1))
    angles = np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0])
    assert_share(angles != 0, P)  # either rotation or both
    assert_distributed(angles[angles != 0], stats.uniform(-math.pi, 2 * math.pi))


def test_rotate_max_and_both_rotations() -> None:
    matrices = geometry(make_pipe(0.75, rotate=1, rotate_max=0.25))
    angles = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert 80 < np.abs(angles).max() <= 90  # two of at most 45 degrees
    # Each of the two is applied with 1 - sqrt(1 - 0.75) = 1/2; the sum of two exceeds 45 degrees in 1/4 of the cases.
    assert_share(np.abs(angles) > 45, 1 / 4 * 1 / 4)


def test_rotation_is_defined_for_any_p() -> None:
    assert np.isfinite(geometry(make_pipe(2.5, rotate=1))).all()


def test_xfrac() -> None:
    shifts = geometry(make_pipe(P, xfrac=1), width=40, height=24)[:, :2, 2]
    shifted = (shifts != 0).all(axis=1)
    assert_share(shifted, P)
    assert_distributed(shifts[shifted, 0], stats.norm(0, 0.125 * 40))
    assert_distributed(shifts[shifted, 1], stats.norm(0, 0.125 * 24))
    assert abs(np.corrcoef(shifts[shifted].T)[0, 1]) < 0.1


@pytest.mark.parametrize("name", [*BLIT, *GEOM])
def test_multiplier_scales_p_of_geometry(name: str) -> None:
    effective = {"xflip": 1 / 2, "rotate90": 3 / 4}.get(name, 1)
    matrices = geometry(make_pipe(0.8, **{name: 0.25}), width=1000, height=1000)
    assert_share(np.abs(matrices - np.eye(3)).max(axis=(1, 2)) > 1e-5, 0.2 * effective)


@pytest.mark.parametrize("name", [*COLOR, "imgfilter", "noise", "cutout"])
def test_multiplier_scales_p_of_the_rest(name: str) -> None:
    images = make_images(1, 3, 22, 22).repeat(4000, 1, 1, 1)
    changed = (run(make_pipe(0.8, **{name: 0.25}), images) - images).abs().amax(dim=[1, 2, 3]) > 1e-5
    assert_share(changed.numpy(), {"lumaflip": 0.1, "imgfilter": 1 - 0.8**4}.get(name, 0.2))


def test_brightness() -> None:
    matrices, offsets = colors(make_pipe(P, brightness=1))
    assert_share(offsets[:, 0] != 0, P)
    assert_distributed(offsets[offsets[:, 0] != 0, 0], stats.norm(0, 0.2))
    assert_close(offsets, offsets[:, :1].repeat(3, axis=1))
    assert_close(matrices, np.broadcast_to(np.eye(3), matrices.shape))


def test_contrast() -> None:
    matrices, offsets = colors(make_pipe(P, contrast=1))
    log2_contrast = np.log2(matrices[:, 0, 0])
    changed = np.abs(log2_contrast) > 1e-6
    assert_share(changed, P)
    assert_distributed(log2_contrast[changed], stats.norm(0, 0.5))
    assert_close(matrices, matrices[:, :1, :1] * np.eye(3))
    assert (offsets == 0).all()


def test_lumaflip() -> None:
    matrices, _ = colors(make_pipe(P, lumaflip=1))
    flipped = matrices[:, 0, 0] < 0.5
    assert_share(flipped, P / 2)
    assert_close(matrices[flipped], np.broadcast_to(np.eye(3) - 2 / 3, matrices[flipped].shape))


def test_hue() -> None:
    matrices, _ = colors(make_pipe(P, hue=1))
    angles = angle_about_grey(matrices)
    rotated = np.abs(angles) > 1e-4
    assert_share(rotated, P)
    assert_distributed(angles[rotated], stats.uniform(-math.pi, 2 * math.pi))
    assert_close(matrices @ np.ones(3), np.ones([NUM_DRAWS, 3]))
    assert_close(matrices @ matrices.transpose(0, 2, 1), np.broadcast_to(np.eye(3), matrices.shape))


def angle_about_grey(matrices: np.ndarray) -> np.ndarray:
    """Angle of rotations about (1, 1, 1), from red to green."""
    across, other = np.array([2, -1, -1]) / math.sqrt(6), np.array([0, 1, -1]) / math.sqrt(2)
    return np.arctan2(other @ matrices @ across, across @ matrices @ across)


def test_hue_max() -> None:
    angles = angle_about_grey(colors(make_pipe(1, hue=1, hue_max=0.25))[0])
    assert_distributed(angles, stats.uniform(-math.pi / 4, math.pi / 2))


def test_saturation() -> None:
    matrices, _ = colors(make_pipe(P, saturation=1))
    log2_saturation = np.log2(matrices[:, 0, 0] - matrices[:, 0, 1])
    changed = np.abs(log2_saturation) > 1e-5
    assert_share(changed, P)
    assert_distributed(log2_saturation[changed], stats.norm(0, 1))
    assert_close(matrices @ np.ones(3), np.ones([NUM_DRAWS, 3]))


@pytest.mark.parametrize("band", [0, 3])
def test_imgfilter_band_gain(band: int) -> None:
    bands = [float(i == band) for i in range(4)]
    # Only the lowest band passes a constant and only the highest one a checkerboard; rows and columns double the gain.
    sign = (-1.0) ** torch.arange(23) if band == 3 else torch.ones(23)
    num_images = 5000
    pipe = make_pipe(P, imgfilter=1, imgfilter_bands=bands)
    gain = run(pipe, (sign[:, None] * sign).repeat(num_images, 1, 1, 1))[:, 0, 10, 10].abs().sqrt().double().numpy()
    # Undo the restored power: gain^2 = t^2 / (power * t^2 + 1 - power) for an amplification by t.
    power = [10, 1, 1, 1][band] / 13
    log2_gain = np.log2(gain**2 * (1 - power) / (1 - power * gain**2)) / 2
    changed = np.abs(log2_gain) > 1e-4
    assert_share(changed, P)
    assert_distributed(log2_gain[changed], stats.norm(0, 1))


def test_wavelets_and_bands() -> None:
    for taps, num_moments in ((augment.SYM6, 6), (augment.SYM2, 2)):
        lowpass, steps = np.array(taps), np.arange(len(taps))
        for shift in range(0, len(taps), 2):
            assert abs(lowpass[: len(taps) - shift] @ lowpass[shift:] - (shift == 0)) < 1e-11
        for order in range(num_moments):
            assert abs(lowpass @ ((-1.0) ** steps * (steps - 5) ** order)) < 1e-9
    bank = AugmentPipe().Hz_fbank.double().numpy()
    assert_close(bank, bank[:, ::-1])
    assert_close(bank.sum(axis=0), np.eye(1, 43, 21)[0])
    # Each band lets the middle of its own octave through best.
    middles = np.array([1 / 16, 3 / 16, 3 / 8, 3 / 4]) * math.pi
    response = np.abs(bank @ np.exp(-1j * np.outer(np.arange(43), middles)))
    assert (response.argmax(axis=0) == np.arange(4)).all()


def test_noise() -> None:
    pixels = run(make_pipe(P, noise=1), torch.zeros(NUM_DRAWS, 1, 8, 8)).flatten(1).double().numpy()
    std = np.sqrt((pixels**2).mean(axis=1))
    noisy = std > 0
    assert_share(noisy, P)
    assert abs(std[noisy].mean() / stats.halfnorm(0, 0.1).mean() - 1) < 0.04
    assert abs((std[noisy] ** 2).mean() / 0.1**2 - 1) < 0.08
    assert stats.kstest((pixels[noisy] / std[noisy, None])[:1000].ravel(), stats.norm.cdf).statistic < 0.02


def test_noise_percentile_sets_its_strength_only() -> None:
    torch.manual_seed(0)
    pixels = AugmentPipe(noise=1, noise_std=0.2)(torch.zeros(2, 1, 64, 64), debug_percentile=0.8)
    assert abs(pixels.std().item() / (0.2 * stats.halfnorm(0, math.sqrt(0.5)).ppf(0.8)) - 1) < 0.05
    assert not torch.equal(pixels[0], pixels[1])


def test_cutout() -> None:
    kept = run(make_pipe(P, cutout=1), torch.ones(NUM_DRAWS, 1, 16, 32))[:, 0].numpy()
    assert set(np.unique(kept)) == {0, 1}
    changed = (kept == 0).any(axis=(1, 2))
    assert_share(changed, P)
    box_heights = (kept[changed] == 0).any(axis=2).sum(axis=1)
    box_widths = (kept[changed] == 0).any(axis=1).sum(axis=1)
    assert box_heights.max() == 8
    assert box_widths.max() == 16
    assert (box_heights * box_widths == (kept[changed] == 0).sum(axis=(1, 2))).all()
    # A center nearer to a border than half the box cuts it: 1/2 - 2 * (1/4)^2 / 2 of each axis is left on average.
    for sizes, whole in ((box_heights, 16), (box_widths, 32)):
        assert abs(sizes.mean() / whole - 7 / 16) < 0.005
    assert abs(np.corrcoef(box_heights, box_widths)[0, 1]) < 0.1


def test_percentile_mode_is_deterministic_and_ignores_p() -> None:
    images = make_images(2, 3, 24, 24)
    pipe = make_pipe(0.0, **BGC, imgfilter=1, cutout=1)
    state = torch.get_rng_state()
    result = pipe(images, debug_percentile=0.3)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(result, make_pipe(1.0, **BGC, imgfilter=1, cutout=1)(images, debug_percentile=0.3))


@pytest.mark.parametrize(("percentile", "inner"), [(0, 0.1), (1, 0.9)])
def test_extreme_percentiles(percentile: float, inner: float) -> None:
    images = make_images(1, 3, 24, 24)
    assert AugmentPipe(**ALL)(images, debug_percentile=percentile).isfinite().all()
    flips = AugmentPipe(xflip=1, rotate90=1, lumaflip=1)
    assert_close(flips(images, debug_percentile=percentile), flips(images, debug_percentile=inner))


def test_bands_that_are_off_stay_off() -> None:
    images = make_images(1, 3, 24, 24)
    pipe = AugmentPipe(imgfilter=1, imgfilter_bands=[0, 0, 0, 0])
    assert_close(pipe(images, debug_percentile=0.9), images, rel=1e-6)


@pytest.mark.usefixtures("place")
def test_first_and_second_derivatives() -> None:
    pipe = make_pipe(0.8, **ALL).double()
    images = make_images(2, 3, 22, 23).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: run(pipe, x), images, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: run(pipe, x).square(), images, fast_mode=True)


def test_gradient_penalty_reaches_parameters() -> None:
    images = make_images(4, 3, 24, 24).requires_grad_()
    weight = torch.full([3, 1, 1], 0.5, requires_grad=True)
    scores = (run(AugmentPipe(**BGC), images) * weight).square().sum(dim=[1, 2, 3])
    (grad,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    grad.square().sum().backward()
    assert weight.grad is not None
    assert (weight.grad.abs() > 0).all()


def test_buffers() -> None:
    shapes = {name: list(value.shape) for name, value in AugmentPipe(**ALL).state_dict().items()}
    assert shapes == {"p": [], "Hz_geom": [12], "Hz_fbank": [4, 43]}
    assert AugmentPipe().p == 1
    assert not list(AugmentPipe().parameters())


def test_pickle_round_trip() -> None:
    pipe, images = make_pipe(0.6, **ALL, imgfilter_bands=[1, 0.5, 1, 0]), make_images(4, 3, 24, 24)
    loaded = pickle.loads(pickle.dumps(pipe))
    assert loaded.init_kwargs == pipe.init_kwargs
    assert torch.equal(run(loaded, images), run(pipe, images))


@pytest.mark.parametrize("shape", [[3, 8, 8], [1, 2, 8, 8], [1, 4, 8, 8]])
def test_wrong_shape(shape: list[int]) -> None:
    with pytest.raises(ValueError, match=r"C = 1 or 3, got \["):
        AugmentPipe(**BGC)(torch.zeros(shape))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.uint8])
def test_wrong_dtype(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=f"must be torch.float32 as the pipe, got {dtype}"):
        AugmentPipe(**BGC)(torch.zeros([1, 3, 8, 8], dtype=dtype))


@pytest.mark.parametrize("percentile", [-0.1, 1.1, math.nan])
def test_wrong_percentile(percentile: float) -> None:
    with pytest.raises(ValueError, match=rf"must lie in \[0, 1\], got {percentile}"):
        AugmentPipe(**BGC)(torch.zeros([1, 3, 8, 8]), debug_percentile=percentile)


def test_too_small_for_the_filter() -> None:
    with pytest.raises(ValueError, match="more than 21 pixels, got 32 x 21"):
        AugmentPipe(imgfilter=1)(torch.zeros([1, 3, 32, 21]))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"hue": -1}, "hue must be a number >= 0, got -1"),
        ({"xflip": math.nan}, "xflip must be a number >= 0, got nan"),
        ({"imgfilter_bands": [1, 1]}, "four numbers >= 0, got"),
        ({"imgfilter_bands": [1, 1, 1, -1]}, "four numbers >= 0, got"),
    ],
)
def test_wrong_settings(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AugmentPipe(**kwargs)
