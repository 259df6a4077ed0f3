"""Before a run: what it will need of memory and disk, and whether that is there."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import psutil
import torch

from dnnlib.util import construct_class_by_name
from training.run.options import DatasetInfo

BYTES_PER_FLOAT = 4
ACTIVATIONS_PER_CHANNEL = 14
"""Floats that a pass keeps per channel and pixel of every resolution, G and D together (our measurement on a CPU)."""
BASE_GIB = 0.45
"""Of a process before any network: Python, torch and its libraries (our measurement)."""


def describe_resources(kwargs: dict[str, Any], dataset: DatasetInfo, outdir: Path, device: torch.device) -> str:
    """Estimate the memory of a process and the size of what a run writes, next to what there is."""
    num_G, num_D = count_parameters(kwargs, dataset)
    # Weights, gradients and two moments of Adam; the moving average of G.
    weights = BYTES_PER_FLOAT * (4 * (num_G + num_D) + num_G)
    activations = BYTES_PER_FLOAT * ACTIVATIONS_PER_CHANNEL * kwargs["batch_gpu"] * _num_activations(kwargs, dataset)
    memory_gib = BASE_GIB + (weights + activations) / 2**30
    snapshot_gib = BYTES_PER_FLOAT * (2 * num_G + num_D) / 2**30
    state_gib = BYTES_PER_FLOAT * (4 * num_G + 3 * num_D) / 2**30
    num_snapshots = math.ceil(kwargs["total_kimg"] / kwargs["kimg_per_tick"] / kwargs["network_snapshot_ticks"]) + 1
    disk_gib = 3 * state_gib + num_snapshots * snapshot_gib
    free_gib = shutil.disk_usage(_existing_parent(outdir)).free / 2**30
    lines = [
        f"Images:     {dataset.num_images} of {dataset.resolution} px, {'with' if dataset.has_labels else 'no'} labels",
        f"Parameters: G {num_G / 1e6:.1f} M, D {num_D / 1e6:.1f} M",
        f"Batch:      {kwargs['batch_size']} images, {kwargs['num_gpus']} process(es), {kwargs['batch_gpu']} per pass",
        f"Memory:     about {memory_gib:.1f} GiB per process ({_describe_memory(device)})",
        f"Disk:       about {disk_gib:.1f} GiB for {num_snapshots} snapshots and the training states, "
        f"{free_gib:.1f} GiB free",
    ]
    if disk_gib > free_gib:
        lines.append("Warning: the disk may run full; raise --snap, lower --kimg or choose another --outdir")
    return "\n".join(lines)


def _describe_memory(device: torch.device) -> str:
    if device.type == "cuda":
        return f"float32; the GPU has {torch.cuda.mem_get_info(device)[1] / 2**30:.1f} GiB"
    return f"this machine has {psutil.virtual_memory().total / 2**30:.1f} GiB of main memory"


def count_parameters(kwargs: dict[str, Any], dataset: DatasetInfo) -> tuple[int, int]:
    """Parameters of G and D, found without allocating them; the loss is constructed too, for its checks.

    Raises:
        ValueError: Settings contradict each other or the resolution.
    """
    image_kwargs: dict[str, Any] = {"c_dim": 0, "img_resolution": dataset.resolution, "img_channels": 3}
    device = torch.device("meta")
    with device:
        G: Any = construct_class_by_name(**kwargs["G_kwargs"], **image_kwargs)
        D: Any = construct_class_by_name(**kwargs["D_kwargs"], **image_kwargs)
        construct_class_by_name(
            device=device, G_mapping=G.mapping, G_synthesis=G.synthesis, D=D, **kwargs["loss_kwargs"]
        )
    num_G, num_D = (sum(parameter.numel() for parameter in network.parameters()) for network in (G, D))
    return num_G, num_D


def _num_activations(kwargs: dict[str, Any], dataset: DatasetInfo) -> int:
    """Channels times pixels, summed over resolutions."""
    capacity = kwargs["D_kwargs"]
    resolutions = [2**i for i in range(2, dataset.resolution.bit_length())]
    return sum(min(capacity["channel_base"] // res, capacity["channel_max"]) * res**2 for res in resolutions)


def _existing_parent(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
