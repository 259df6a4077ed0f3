"""Before a run: what it will do, what memory and disk space it needs, and whether they are there."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import torch

from dnnlib.util import UserError, construct_class_by_name, open_url
from training.run.options import CHANNELS_AT_FULL_WIDTH, DatasetInfo
from training.run.presets import Preset
from training.snapshots.load import load_networks
from training.snapshots.transfer import transfer_weights

BYTES_PER_FLOAT = 4
ACTIVATIONS_PER_CHANNEL = 14
"""Floats that a pass keeps per channel and pixel of every resolution, G and D together (measured on a CPU)."""
BASE_GIB = 0.45
"""Memory of a process without any network: Python, torch and its libraries (measured)."""
MIN_RESOLUTION_PX = 8
"""The discriminator has a block per resolution above 4 px, and at least one."""
MAX_TRIED_PX = 64
"""Augmentation is tried out on images up to this size; some transforms do not work on the smallest ones."""


def describe_run(kwargs: dict[str, Any], dataset: DatasetInfo, outdir: Path, device: torch.device) -> str:
    """Describe a run in a few lines, with an estimate of its memory and disk space next to what there is.

    Raises:
        ValueError: Settings contradict each other or the dataset.
    """
    num_G, num_D = check_networks(kwargs, dataset)
    # Weights, gradients and the two moments of Adam; the moving average of G.
    weights = BYTES_PER_FLOAT * (4 * (num_G + num_D) + num_G)
    activations = BYTES_PER_FLOAT * ACTIVATIONS_PER_CHANNEL * kwargs["batch_gpu"] * _num_activations(kwargs, dataset)
    memory_gib = BASE_GIB + (weights + activations) / 2**30
    snapshot_gib = BYTES_PER_FLOAT * (2 * num_G + num_D) / 2**30
    checkpoint_gib = BYTES_PER_FLOAT * (4 * num_G + 3 * num_D) / 2**30
    num_snapshots = _num_snapshots(kwargs)
    disk_gib = 3 * checkpoint_gib + num_snapshots * snapshot_gib
    free_gib = shutil.disk_usage(existing_parent(outdir)).free / 2**30
    method = kwargs["D_kwargs"]["class_name"].rpartition(".")[2]
    lines = [
        f"Images:     {dataset.num_images} of {dataset.resolution} px, {dataset.label_summary}",
        f"Networks:   G {num_G / 1e6:.1f} M parameters, D {num_D / 1e6:.1f} M ({method})",
        f"Batch:      {kwargs['batch_size']} images, {kwargs['num_gpus']} process(es), {kwargs['batch_gpu']} per pass",
        f"Length:     {kwargs['total_kimg']:g} kimg; samples and a snapshot every "
        f"{kwargs['kimg_per_tick'] * (kwargs['network_snapshot_ticks'] or math.inf):g} kimg",
        f"Memory:     about {memory_gib:.1f} GiB per process ({_describe_memory(device)})",
        f"Disk:       about {disk_gib:.1f} GiB for {num_snapshots} snapshots and the checkpoints, "
        f"{free_gib:.1f} GiB free",
    ]
    if disk_gib > free_gib:
        lines.append("Warning: the disk may run full; raise --snap, lower --kimg or choose another --outdir")
    if memory_gib * (1 if device.type == "cuda" else kwargs["num_gpus"]) > _memory_gib(device):
        lines.append("Warning: memory may run out; lower --batch-gpu, --batch or --cbase")
    if kwargs.get("num_bf16_res") and not _is_bfloat16_fast(device):
        lines.append("Warning: bfloat16 is slower than float32 here; see docs/training.md")
    return "\n".join(lines)


def _is_bfloat16_fast(device: torch.device) -> bool:
    """Return whether the device computes in bfloat16: on CPUs only AMX pays (docs/training.md)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return capabilities.get("amx_bf16", False)


def _num_snapshots(kwargs: dict[str, Any]) -> int:
    if kwargs["network_snapshot_ticks"] is None:
        return 0
    return math.ceil(kwargs["total_kimg"] / kwargs["kimg_per_tick"] / kwargs["network_snapshot_ticks"]) + 1


def _describe_memory(device: torch.device) -> str:
    if device.type == "cuda":
        return f"float32; the GPU has {_memory_gib(device):.1f} GiB"
    return f"this machine has {_memory_gib(device):.1f} GiB of main memory"


def _memory_gib(device: torch.device) -> float:
    num_bytes = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else psutil.virtual_memory().total
    return num_bytes / 2**30


def check_networks(kwargs: dict[str, Any], dataset: DatasetInfo) -> tuple[int, int]:
    """Construct everything a run consists of without allocating the weights, and count the parameters of G and D.

    Raises:
        ValueError: Settings contradict each other, or do not fit the images.
    """
    if dataset.resolution < MIN_RESOLUTION_PX:
        raise ValueError(f"images of {dataset.resolution} px are too small: training needs {MIN_RESOLUTION_PX} or more")
    device = torch.device("meta")
    with device:
        G, D = _construct_networks(kwargs, dataset)
        loss = construct_class_by_name(
            device=device, G_mapping=G.mapping, G_synthesis=G.synthesis, D=D, **kwargs["loss_kwargs"]
        )
        for extension_kwargs in kwargs.get("extension_kwargs", ()):
            construct_class_by_name(extended_loss=loss, batch_size=kwargs["batch_size"], **extension_kwargs)
    if kwargs.get("augment_kwargs") is not None and dataset.resolution <= MAX_TRIED_PX:
        pipe = construct_class_by_name(**kwargs["augment_kwargs"])
        with torch.random.fork_rng([]):
            pipe(torch.zeros([1, dataset.num_channels, dataset.resolution, dataset.resolution]))
    num_G, num_D = (sum(parameter.numel() for parameter in network.parameters()) for network in (G, D))
    return num_G, num_D


def _construct_networks(kwargs: dict[str, Any], dataset: DatasetInfo) -> tuple[Any, Any]:
    common: dict[str, Any] = {
        "c_dim": dataset.label_dim if kwargs["training_set_kwargs"].get("use_labels") else 0,
        "img_resolution": dataset.resolution,
        "img_channels": dataset.num_channels,
    }
    return (
        construct_class_by_name(**kwargs["G_kwargs"], **common),
        construct_class_by_name(**kwargs["D_kwargs"], **common),
    )


def try_transfer(kwargs: dict[str, Any], dataset: DatasetInfo, is_trusted: bool) -> Iterator[str]:
    """Open the snapshot to resume from, copy its weights into networks of this run, and yield lines about it.

    Raises:
        UserError: It cannot be read, or does not fit.
    """
    with open_url(kwargs["resume_pkl"]) as file:
        snapshot = load_networks(file, ["G", "D", "G_ema"], trusted=is_trusted)
    yield from snapshot.notes
    G, D = _construct_networks(kwargs, dataset)
    for name, target in (("G", G), ("D", D), ("G_ema", G)):
        try:
            yield f"Resume:     {name}: {transfer_weights(snapshot.parts[name], target).describe()}"
        except UserError as error:
            raise UserError(f"--resume={kwargs['resume_pkl']}: {name}: {error}") from error


def _num_activations(kwargs: dict[str, Any], dataset: DatasetInfo) -> int:
    """Channels times pixels, summed over resolutions."""
    capacity = {"channel_base": CHANNELS_AT_FULL_WIDTH, "channel_max": Preset.cmax, **kwargs["D_kwargs"]}
    resolutions = [2**i for i in range(2, dataset.resolution.bit_length())]
    return sum(min(capacity["channel_base"] // res, capacity["channel_max"]) * res**2 for res in resolutions)


def existing_parent(path: Path) -> Path:
    """Return the path itself if there is such a file or folder, else the nearest of the folders above it."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
