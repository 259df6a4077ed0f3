import numpy as np
import pytest
import torch

from training.inference.distances import distance_name, distances, mean_distances


def test_only_the_calibrated_network_is_called_lpips():
    assert distance_name("vgg16") == "LPIPS (VGG16)"
    assert distance_name("efficientnet_lite1") == "perceptual (efflite)"
    assert distance_name("/home/me/mine\x1b.pt") == r"perceptual ('mine\x1b')"


class Mean(torch.nn.Module):
    def forward(self, img, resize_images, return_lpips):
        return img.mean(dim=(2, 3)) / 255


def test_distances():
    a, b = np.zeros([4, 4, 3], np.uint8), np.full([4, 4, 3], 51, np.uint8)
    b[:2] = 0
    found = distances(a, b, Mean(), "mean", torch.device("cpu"))
    assert found == {"pixels": pytest.approx(51 / 2**0.5), "mean": pytest.approx(3 * 0.1**2, rel=1e-4)}
    assert mean_distances([{"a": 1, "b": 2}, {"a": 3, "b": 6}]) == {"a": 2, "b": 4}
    assert mean_distances([{"a": 1, "b": 2}]) == {"a": 1, "b": 2}
