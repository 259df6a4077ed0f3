"""Network snapshots in the format that every StyleGAN2-ADA tool opens (docs/compatibility.md)."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any, cast

import torch

from dnnlib.atomic import write_atomic


def save_snapshot(path: Path, networks: dict[str, torch.nn.Module | None], training_set_kwargs: dict[str, Any]) -> None:
    """Write a snapshot; the file appears whole or not at all.

    Args:
        path: ``network-snapshot-<kimg>.pkl``.
        networks: 'G', 'D', 'G_ema', and 'augment_pipe' or None for it. Copies are saved: in evaluation mode, on the
            CPU, without gradients.
        training_set_kwargs: Arguments of the dataset, from which tools find the training images.

    Raises:
        OSError: The file cannot be written.
    """
    data: dict[str, Any] = {"training_set_kwargs": dict(training_set_kwargs)}
    for name, module in networks.items():
        data[name] = None if module is None else copy.deepcopy(module).eval().requires_grad_(False).cpu()
    write_atomic(path, lambda file: pickle.Pickler(cast(Any, file)).dump(data))
