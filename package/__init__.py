"""Trained generators in a few lines, from any folder and beside any other project.

As in::

    import mscond

    generator = mscond.load("network-snapshot-000200.pkl")
    images = generator.sample(range(36), truncation=0.7)  # uint8 [36, H, W, C]

docs/package.md says more. Importing this is quick: PyTorch is imported by the first call.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .generator import Generator

__all__ = ["from_pretrained", "load"]


def load(path: str | os.PathLike[str], device: str = "auto", trusted: bool = False) -> Generator:
    """Load a trained generator; nothing in the file is executed unless it is ``trusted``.

    Args:
        path: Snapshot (.pkl) of this project, of StyleGAN2-ADA or of TensorFlow's StyleGAN2, by path or https URL; or a
            folder with ``model.safetensors`` and ``config.json``.
        device: ``'cpu'``, ``'cuda'``, ``'mps'``, or ``'auto'``: CUDA if available, else the CPU.
        trusted: Let a snapshot execute code, which only networks of unknown classes need.

    Raises:
        ValueError: The file is missing or cannot be read; the message says in one line what to do.
    """
    from .generator import load_generator

    return load_generator(os.fspath(path), device, trusted)


def from_pretrained(
    repo_or_folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | None = None,
    device: str = "auto",
) -> Generator:
    """Load a generator that `mscond.generator.Generator.push_to_hub` or ``save`` wrote; nothing is executed.

    Args:
        repo_or_folder: Folder, or repository ``OWNER/NAME`` on the Hugging Face hub (``pip install huggingface_hub``).
        revision: Branch, tag or commit of the repository. Default: its main branch.
        token: Access token for private repositories. Default: that of ``hf auth login`` or HF_TOKEN.
        device: Device, as for `load`.

    Raises:
        ValueError: There is no such repository, it holds no generator, or it cannot be reached.
    """
    from .generator import load_generator

    folder = os.fspath(repo_or_folder)
    if not os.path.isdir(folder):  # noqa: PTH112 -- pathlib would cost a tenth of the time that this import may take
        from .hub import download

        folder = str(download(folder, revision, token))
    return load_generator(folder, device, trusted=False)
