import copy

import numpy as np
import pytest
import torch

from tests import tiny_snapshot
from tests.helpers import assert_close
from training.inference import projection
from training.inference.projection import project_many
from training.inference.sampling import class_label

CPU = torch.device("cpu")


class Pixels(torch.nn.Module):
    """A stand-in for a perceptual network; notes the sizes it is given."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, img, resize_images, return_lpips):
        assert (resize_images, return_lpips, img.shape[1]) == (False, True, 3)
        self.sizes.append(img.shape[2])
        return torch.nn.functional.adaptive_avg_pool2d(img, 16).flatten(1) / 255


def target_of(G, label):
    z = torch.from_numpy(np.random.RandomState(7).randn(1, G.z_dim)).float()
    return (G(z, label, noise_mode="const") + 1) * 127.5


@pytest.mark.parametrize(("c_dim", "img_channels"), [(0, 3), (2, 1)])
def test_distance_falls_to_a_fraction(c_dim, img_channels):
    G = tiny_snapshot.generator(c_dim, img_channels, noise_strength=0.01)  # w cannot explain the target's noise
    before = copy.deepcopy(G.state_dict())
    label = class_label(G, 1 if c_dim else None, CPU)
    steps = list(project_many(G, target_of(G, label), Pixels(), label, num_steps=60, num_w_samples=500))
    assert len(steps) == 60
    assert steps[-1].ws.shape == (1, 1, 8)
    assert steps[-1].distances < 0.1 * steps[0].distances
    assert all(torch.equal(tensor, before[name]) for name, tensor in G.state_dict().items())


def test_result_depends_on_the_seed_only():
    G = tiny_snapshot.generator()
    label = class_label(G, None, CPU)
    global_state = torch.get_rng_state()
    runs = [list(project_many(G, target_of(G, label), Pixels(), label, 5, seed, 50)) for seed in (1, 1, 2)]
    assert torch.equal(runs[0][-1].ws, runs[1][-1].ws)
    assert not torch.equal(runs[0][-1].ws, runs[2][-1].ws)
    assert torch.equal(global_state, torch.get_rng_state())


def test_first_step_starts_at_the_mean_with_learning_rate_0():
    G = tiny_snapshot.generator()
    label = class_label(G, None, CPU)
    first = next(project_many(G, target_of(G, label), Pixels(), label, num_w_samples=50))
    assert torch.equal(first.ws[0, 0], projection.w_statistics(G, label, 50)[0])


class NoiseAsImage(torch.nn.Module):
    """A generator whose image is its noise map; notes what it is given."""

    z_dim, num_ws = 4096, 3

    class Synthesis(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.ws, self.noise_maps = [], []
            self.register_buffer("noise_const", torch.zeros(16, 16))

        def forward(self, ws, noise_mode):
            assert noise_mode == "const"
            assert ws.shape == (1, 3, 4096)
            self.ws.append(ws[0, 0].detach().clone())
            self.noise_maps.append(self.noise_const.detach().clone())
            return self.noise_const.expand(1, 3, 16, 16) + 0 * ws.sum()

    def __init__(self):
        super().__init__()
        self.synthesis = self.Synthesis()

    def mapping(self, z, c, truncation_psi):
        return 2 * z[:, None].expand(-1, 3, -1)


def test_noise_on_w_fades():
    """Appendix D: N(0, 0.05 sigma_w t^2), t from 1 to 0 in the first three quarters."""
    G = NoiseAsImage()
    target, label = torch.zeros(1, 3, 16, 16), torch.zeros(1, 0)
    steps = list(project_many(G, target, Pixels(), label, num_steps=20, num_w_samples=100))
    _, w_std = projection.w_statistics(G, label, 100)
    noises = [ws - step.ws[0, 0] for ws, step in zip(G.synthesis.ws[1:], steps, strict=False)]
    for step, noise in enumerate(noises, start=1):
        expected = 0.05 * w_std * max(0, 1 - step / 20 / 0.75) ** 2
        assert float(noise.std()) == pytest.approx(expected, rel=0.05, abs=1e-6)
    assert float(noises[0].mean()) == pytest.approx(0, abs=0.1 * float(noises[0].std()))


def test_noise_maps_stay_noise():
    """They are all that could reproduce this target."""
    ramp = 255 * torch.linspace(0, 1, 16).expand(1, 3, 16, 16)
    G = NoiseAsImage()
    list(project_many(G, ramp, Pixels(), torch.zeros(1, 0), num_steps=100, num_w_samples=10))
    for noise_map in G.synthesis.noise_maps[1:]:
        assert noise_map.mean().item() == pytest.approx(0, abs=1e-5)
        assert noise_map.square().mean().item() == pytest.approx(1, rel=1e-4)
    assert projection.noise_map_penalty(noise_map) < 1e-5  # 1e-4 with a hundredth of the weight


def test_statistics_of_w():
    G = tiny_snapshot.generator(c_dim=2)
    label = torch.eye(2)[1:]
    z = torch.from_numpy(np.random.RandomState(123).randn(1500, 8)).float()
    w = G.mapping(z, label.repeat(1500, 1))[:, 0].double().numpy()
    mean, std = projection.w_statistics(G, label, 1500)
    assert_close(mean, w.mean(axis=0))
    assert std == pytest.approx(np.sqrt(((w - w.mean(axis=0)) ** 2).sum(axis=1).mean()), rel=1e-5)


@pytest.mark.parametrize(("progress", "rate"), [(0, 0), (0.025, 0.05), (0.05, 0.1), (0.75, 0.1), (0.875, 0.05), (1, 0)])
def test_learning_rate(progress, rate):
    assert projection.learning_rate(progress) == pytest.approx(rate)


def test_noise_map_penalty():
    noise_map = np.random.RandomState(0).randn(32, 32) + 0.3
    expected, scale = 0.0, noise_map
    while True:
        size = len(scale)
        for dy, dx in ((0, 1), (1, 0)):
            products = [scale[y, x] * scale[y - dy, x - dx] for y in range(size) for x in range(size)]
            expected += np.mean(products) ** 2
        if size == 8:
            break
        scale = 2 * scale.reshape(size // 2, 2, size // 2, 2).mean(axis=(1, 3))
    assert projection.noise_map_penalty(torch.from_numpy(noise_map)).item() == pytest.approx(expected)
    assert projection.noise_map_penalty(torch.ones(4, 4)).item() == 2


def test_noise_maps_are_normalized():
    noise_maps = {"a": (3 + 5 * torch.randn(16, 16)).requires_grad_(), "b": torch.randn(4, 4).requires_grad_()}
    projection.normalize_(noise_maps)
    for noise_map in noise_maps.values():
        assert noise_map.mean().item() == pytest.approx(0, abs=1e-6)
        assert noise_map.square().mean().item() == pytest.approx(1, rel=1e-5)
        assert noise_map.requires_grad


@pytest.mark.parametrize(("size_px", "seen_px"), [(16, 64), (64, 64), (128, 128), (512, 256)])
def test_detector_sees_images_of_moderate_size(size_px, seen_px):
    detector = Pixels()
    projection.perceptual_features(detector, torch.zeros(1, 1, size_px, size_px))
    assert detector.sizes == [seen_px]


@pytest.mark.parametrize("per_layer", [False, True])
def test_each_of_many_targets_is_projected_as_if_alone(per_layer):
    G = tiny_snapshot.generator()
    label = class_label(G, None, CPU)
    targets = torch.cat([target_of(G, label), 255 * torch.rand(1, 3, 16, 16)])
    arguments = (Pixels(), label, 6, 1, 50)
    *_, together = project_many(G, targets, *arguments, per_layer=per_layer)
    assert together.ws.shape == (2, G.num_ws if per_layer else 1, 8)
    for i in range(2):
        *_, alone = project_many(G, targets[i : i + 1], *arguments, per_layer=per_layer)
        assert_close(together.ws[i], alone.ws[0], rel=1e-3)
        assert together.distances[i].item() == pytest.approx(alone.distances[0].item(), rel=1e-3)


@pytest.mark.slow
def test_w_plus_comes_closer_than_w():
    G = tiny_snapshot.generator()
    label = class_label(G, None, CPU)
    target = 255 * torch.rand(1, 3, 16, 16)
    lasts = [list(project_many(G, target, Pixels(), label, 60, 1, 50, per_layer=each))[-1] for each in (False, True)]
    assert lasts[1].distances < 0.9 * lasts[0].distances
    assert not torch.equal(lasts[1].ws[0, 0], lasts[1].ws[0, 1])


def test_maps_in_a_batch_are_penalized_and_normalized_one_by_one():
    maps = 2 + 3 * torch.randn(2, 1, 16, 16)
    penalties = projection.noise_map_penalty(maps)
    assert_close(penalties[:, 0], torch.stack([projection.noise_map_penalty(each) for each in maps[:, 0]]))
    alone = {str(i): each.clone() for i, each in enumerate(maps[:, 0])}
    projection.normalize_(alone)
    projection.normalize_({"": maps})
    assert_close(maps[:, 0], torch.stack(list(alone.values())))
