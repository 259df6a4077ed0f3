"""Weights of feature networks: where they come from, and which of them may run.

Weights are searched for in the user's folder, then in the package or the download cache, then they are downloaded.

A TorchScript file is a program: loading one runs its author's code with the rights of the user. Only two kinds are
loaded without being asked for: files with a known sha256, and files that our downloader fetched over https from the
URL in the table of `metrics.detectors`, whose publisher is NVIDIA. Any other needs `trust_torchscript`
(``--trust-detectors``). See docs/metrics.md.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import zipfile
from pathlib import Path

from dnnlib.cache_folder import make_cache_dir_path
from dnnlib.commands import how_to_install
from dnnlib.errors import UserError
from dnnlib.file_content import content_fault, sha256_of
from dnnlib.urls import is_url, open_url
from metrics import detectors

FOLDER_VARIABLE = "MSCOND_DETECTORS"
TRUST_VARIABLE = "MSCOND_TRUST_DETECTORS"

_MAX_PIN_BYTES = 4096


def find_weights(name: str, folder: str | None = None, verbose: bool = False) -> Path:
    """Find the weights of a detector, downloading them if necessary.

    Args:
        name: What `metrics.detectors.get_detector` accepts.
        folder: The user's folder, which is searched first. Default: $MSCOND_DETECTORS.
        verbose: Announce a download.

    Raises:
        UserError: They are missing, their sha256 is wrong, or they are an untrusted program. The text says what to do.
    """
    return find_file(detectors.get_detector(name), folder, verbose)


def find_file(detector: detectors.Detector, folder: str | None = None, verbose: bool = False) -> Path:
    """Find the weights of a detector that need not be in the table; see `find_weights`."""
    folder = folder or os.environ.get(FOLDER_VARIABLE)
    local = Path(folder, detector.file_name) if folder else None
    try:
        if folder and not Path(folder).is_dir():
            raise UserError(f"there is no folder {folder}")
        sha256 = detector.sha256 if local is None else _pinned_sha256(local, detector.sha256)
        source = str(local) if local and local.is_file() else _source(detector)
        cache_dir = make_cache_dir_path("detectors") if is_url(source) else None
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
    """Return whether a file is what a publisher in the table offers, by its sha256 or by the URL that it came from."""
    is_published = is_url(source) and any(source == known.source for known in detectors.DETECTORS.values())
    return is_published or any(weights_sha256(weights) == known.sha256 for known in detectors.DETECTORS.values())


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


def _source(detector: detectors.Detector) -> str:
    if detector.package is None:
        return detector.source
    spec = importlib.util.find_spec(detector.package)
    if spec is None or spec.origin is None:
        raise UserError(f"package {detector.package.replace('_', '-')} is missing: {how_to_install('metrics')}")
    return str(Path(spec.origin).parent / detector.source)


@functools.lru_cache
def weights_sha256(weights: Path) -> str:
    """Hash a weights file once per process."""
    return sha256_of(weights)
