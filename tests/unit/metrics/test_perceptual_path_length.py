from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from metrics import perceptual_path_length
from metrics.generated import item_rng
from metrics.metric_utils import MetricOptions
from metrics.perceptual_path_length import compute_ppl, path_ends, slerp, trimmed_mean
from tests.helpers import assert_close
from tests.unit.metrics import tiny


def test_slerp_turns_by_the_fraction_of_the_angle():
    a, b = torch.randn(2, 8, 5, dtype=torch.float64)
    lengths = torch.linalg.vector_norm(a, dim=1), torch.linalg.vector_norm(b, dim=1)
    angle = torch.arccos((a * b).sum(1) / (lengths[0] * lengths[1]))
    for t in (0.0, 0.3, 1.0):
        point = slerp(a, b, torch.full([8, 1], t))
        assert_close(torch.linalg.vector_norm(point, dim=1), torch.ones(8))
        assert_close((a * point).sum(1) / lengths[0], torch.cos(t * angle))
    assert_close(point, b / lengths[1][:, None])


def test_trimmed_mean_leaves_out_what_lies_outside():
    distances = np.concatenate([[1e6, -1e6], np.arange(200.0)])
    assert trimmed_mean(np.random.RandomState(0).permutation(distances)) == np.arange(1, 199).mean()
    assert trimmed_mean(np.array([3.0])) == 3.0


def test_paths_in_w_are_straight():
    G = SimpleNamespace(mapping=lambda z, c: z[:, None, :].repeat(1, 2, 1) * 2)
    z0, z1, t = torch.randn(3, 4), torch.randn(3, 4), torch.rand(3, 1)
    ends = path_ends(G, z0, z1, torch.zeros(3, 0), t, 0.25, "w")
    expected = torch.cat([z0 + (z1 - z0) * t, z0 + (z1 - z0) * (t + 0.25)]) * 2
    assert_close(ends, expected[:, None, :].repeat(1, 2, 1))


class SquareGenerator(torch.nn.Module):
    """Its image is the square of z, plus noise; its w is z."""

    z_dim, c_dim, img_resolution = 12, 0, 2

    def __init__(self, img_channels):
        super().__init__()
        self.img_channels = img_channels
        self.mapping = lambda z, c: z[:, None, :]

    def synthesis(self, ws, force_fp32):
        assert force_fp32
        img = ws[:, 0, : self.img_channels * 4].square().reshape(-1, self.img_channels, 2, 2)
        return img + 100 * torch.randn([len(img), 1, 2, 2])


class Pixels(torch.nn.Module):
    def forward(self, img, resize_images, return_lpips):
        assert not resize_images
        assert return_lpips
        assert img.shape[1] == 3
        return img.flatten(1) / 127.5


@pytest.mark.parametrize("img_channels", [1, 3])
@pytest.mark.parametrize("sampling", ["full", "end"])
def test_closed_form_of_a_simple_generator(sampling, img_channels, monkeypatch):
    monkeypatch.setattr(perceptual_path_length.metric_utils, "prepare_detector", lambda opts, url: Pixels())
    opts = MetricOptions(G=SquareGenerator(img_channels), device="cpu")
    ppl = compute_ppl(opts, num_samples=7, epsilon=0.25, space="w", sampling=sampling, crop=False, batch_size=3)
    distances = []
    for index in range(7):
        rng = item_rng(0, index)
        z0, z1 = rng.randn(2, 12)[:, : img_channels * 4]
        t = rng.uniform() if sampling == "full" else 0
        ends = [np.square(z0 + (z1 - z0) * position) for position in (t, t + 0.25)]
        distances.append(np.square((ends[1] - ends[0]) / 0.25).sum() * 3 / img_channels)
    assert_close(ppl, trimmed_mean(np.array(distances)), 1e-3)


def test_refuses_images_that_are_not_finite():
    with pytest.raises(UserError, match="not finite"):
        perceptual_path_length._prepare_images(torch.full([1, 3, 8, 8], float("nan")), crop=False)


def test_half_precision_is_off_and_the_record_says_so(monkeypatch):
    monkeypatch.setattr(perceptual_path_length.metric_utils, "prepare_detector", lambda opts, url: Pixels())
    G = SquareGenerator(3)
    G.use_fp16 = True
    opts = MetricOptions(G=G, device="cpu")
    compute_ppl(opts, num_samples=2, epsilon=0.25, space="w", sampling="end", crop=False)
    assert (opts.protocol["num_fp16_res"], opts.protocol["G_kwargs"]) == (0, {"force_fp32": True})


@pytest.mark.parametrize("space", ["z", "w"])
def test_does_not_depend_on_the_batch(space, tiny_weights):
    def ppl(batch_size):
        opts = MetricOptions(G=tiny.generator(), device="cpu")
        return compute_ppl(opts, 9, 0.1, space, "full", crop=True, batch_size=batch_size, detector_url=tiny.NAME)

    assert ppl(1) > 0
    assert_close(ppl(4), ppl(1), 1e-4)


def test_crop_and_size():
    ramp = torch.linspace(-1, 1, 1024)
    img = (ramp[:, None] / 3 + ramp * 2 / 3)[None, None]
    whole = perceptual_path_length._prepare_images(img, crop=False)
    assert whole.shape == (1, 3, 256, 256)
    assert_close(whole[0, 2], (img[0, 0] + 1).reshape(256, 4, 256, 4).mean((1, 3)) * 127.5)
    cropped = perceptual_path_length._prepare_images(img, crop=True)
    assert_close(cropped, whole[:, :, 96:224, 64:192])
    assert perceptual_path_length._prepare_images(img[:, :, :200, :200], crop=False).shape == (1, 3, 200, 200)
