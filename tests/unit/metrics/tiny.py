"""A generator, a detector and a dataset that are small enough for tests; child processes import this module too."""

import functools
from pathlib import Path

import numpy as np
import torch

import dnnlib
from metrics import detectors
from tests import image_files
from training.networks import Generator

RESOLUTION_PX = 8
NUM_FEATURES = 6
NAME = "tiny"


class TinyDetector(torch.nn.Module):
    """Fixed random features with the call of a detector; counts the images it has seen."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        rng = np.random.RandomState(0)
        self.register_buffer("projection", torch.from_numpy(scale * rng.randn(48, NUM_FEATURES).astype(np.float32)))
        self.num_seen = 0

    def forward(self, img, return_features=False, no_output_bias=False, return_lpips=False, resize_images=True):
        self.num_seen += len(img)
        x = torch.nn.functional.adaptive_avg_pool2d(img.float(), 4).flatten(1) / 256 @ self.projection
        assert return_features + no_output_bias + return_lpips == 1
        return x.softmax(dim=1) if no_output_bias else x.sin()


def register_detector(weights: Path) -> None:
    """Make the detector known; its weights file holds the scale of its features."""
    detectors.DETECTORS[NAME] = detectors.Detector(
        NAME, str(weights), load=lambda path: TinyDetector(float(path.read_text())), num_features=NUM_FEATURES
    )


@functools.cache
def generator(c_dim: int = 0) -> Generator:
    """Make a generator whose images depend on noise too."""
    torch.manual_seed(1)
    kwargs = {"channel_base": 64, "channel_max": 8}
    G = Generator(z_dim=4, c_dim=c_dim, w_dim=8, img_resolution=RESOLUTION_PX, img_channels=3, synthesis_kwargs=kwargs)
    for name, parameter in G.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.constant_(parameter, 0.3)
    return G.eval().requires_grad_(False)


def write_images(folder: Path, num: int = 20) -> Path:
    """Write a dataset of random images."""
    return image_files.write_folder(folder, image_files.images(num, size=(RESOLUTION_PX, RESOLUTION_PX)))


def dataset_kwargs(path: Path, **kwargs) -> dnnlib.EasyDict:
    return dnnlib.EasyDict(class_name="training.dataset.ImageFolderDataset", path=str(path), **kwargs)
