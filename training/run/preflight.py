"""Checks before a run, and a summary of it with the memory and disk space that it needs."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from dnnlib.commands import page
from dnnlib.util import UserError, construct_class_by_name, format_time
from metrics import metric_main
from metrics.datasets import open_dataset
from training.networks import DiscriminatorBlock
from training.run.construction import ImageShape, construct_loss, construct_networks
from training.run.dataset_info import DatasetInfo
from training.run.memory import describe_memory
from training.run.rehearsal import META, image_shape
from training.run.settings import TrainingSettings
from training.run.time_plan import describe_length, num_ticks
from training.snapshots.transfer import transfer_snapshot

INVALID_FLAGS = "invalid flags"
"""Begins an error about flags, where one about a file would begin with its path."""

BYTES_PER_FLOAT = 4
MIN_TRAINING_PX = 8
"""Smallest images: the discriminator has a block per resolution above 4 px, and at least one."""
MAX_TRIED_PX = 64
"""Largest images on which augmentation is tried out; some transforms fail on the smallest ones."""


def describe_run(kwargs: dict[str, Any], dataset: DatasetInfo, outdir: Path, device: torch.device) -> str:
    """Describe a run in a few lines, with an estimate of its memory and disk space next to what there is.

    Raises:
        ValueError: Settings contradict each other or the dataset.
    """
    num_G, num_D = check_networks(kwargs, dataset)
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
        _describe_length(kwargs),
        *describe_memory(kwargs, dataset, device),
        f"Disk:       about {disk_gib:.1f} GiB for {num_snapshots} snapshots and the checkpoints, "
        f"{free_gib:.1f} GiB free",
    ]
    if disk_gib > free_gib:
        lines.append("Warning: the disk may run full; raise --snap, lower --kimg or choose another --outdir")
    if kwargs.get("num_bf16_res") and not _is_bfloat16_fast(device):
        lines.append(f"Warning: bfloat16 is slower than float32 here; see {page('training.md')}")
    return "\n".join(lines)


def _is_bfloat16_fast(device: torch.device) -> bool:
    """Return whether the device computes in bfloat16: on CPUs only AMX pays (docs/training.md)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return capabilities.get("amx_bf16", False)


def _describe_length(kwargs: dict[str, Any]) -> str:
    ticks = kwargs["network_snapshot_ticks"] or math.inf
    limit_sec = kwargs.get("time_limit_sec")
    if limit_sec is None:
        every = f"{kwargs['kimg_per_tick'] * ticks:g} kimg"
    else:
        every = format_time(limit_sec / num_ticks(limit_sec) * min(ticks, num_ticks(limit_sec)))
    return f"Length:     {describe_length(kwargs['total_kimg'], limit_sec)}; samples and a snapshot every {every}"


def _num_snapshots(kwargs: dict[str, Any]) -> int:
    if kwargs["network_snapshot_ticks"] is None:
        return 0
    if kwargs.get("time_limit_sec") is not None:
        return math.ceil(num_ticks(kwargs["time_limit_sec"]) / kwargs["network_snapshot_ticks"]) + 1
    return math.ceil(kwargs["total_kimg"] / kwargs["kimg_per_tick"] / kwargs["network_snapshot_ticks"]) + 1


def check_networks(kwargs: dict[str, Any], dataset: DatasetInfo) -> tuple[int, int]:
    """Construct everything a run consists of without allocating the weights, and count the parameters of G and D.

    Raises:
        ValueError: Settings contradict each other, or do not fit the images.
    """
    if dataset.resolution < MIN_TRAINING_PX:
        raise ValueError(f"images of {dataset.resolution} px are too small: training needs {MIN_TRAINING_PX} or more")
    settings = _without_pipe(kwargs)
    with META:
        networks = construct_networks(settings, _image_shape(kwargs, dataset), META)
        construct_loss(settings, networks, META)
    _check_frozen_layers(kwargs, networks.D)
    if kwargs.get("augment_kwargs") is not None and dataset.resolution <= MAX_TRIED_PX:
        pipe = construct_class_by_name(**kwargs["augment_kwargs"])
        with torch.random.fork_rng([]):
            pipe(torch.zeros([1, dataset.num_channels, dataset.resolution, dataset.resolution]))
    num_G, num_D = (sum(parameter.numel() for parameter in network.parameters()) for network in networks[:2])
    return num_G, num_D


def _check_frozen_layers(kwargs: dict[str, Any], D: torch.nn.Module) -> None:
    num_frozen = kwargs["D_kwargs"].get("block_kwargs", {}).get("freeze_layers", 0)
    num_layers = sum(block.num_layers for block in D.modules() if isinstance(block, DiscriminatorBlock))
    if num_frozen > num_layers:
        raise ValueError(
            f"--freezed={num_frozen}: D has {num_layers} layers that can be frozen: give 0 to {num_layers}"
        )


def _without_pipe(kwargs: dict[str, Any]) -> TrainingSettings:
    """Leave out the augmentation pipe, whose filters need values, which the meta device has none of."""
    return TrainingSettings(**{**kwargs, "augment_kwargs": None})


def _image_shape(kwargs: dict[str, Any], dataset: DatasetInfo) -> ImageShape:
    return image_shape(bool(kwargs["training_set_kwargs"].get("use_labels")), dataset)


def try_transfer(kwargs: dict[str, Any], dataset: DatasetInfo, is_trusted: bool) -> Iterator[str]:
    """Open the snapshot to resume from, copy its weights into networks of this run, and yield lines about it.

    Raises:
        UserError: It cannot be read, or does not fit.
    """
    G, D, _pipe = construct_networks(_without_pipe(kwargs), _image_shape(kwargs, dataset), torch.device("cpu"))
    for line in transfer_snapshot(kwargs["resume_pkl"], {"G": G, "D": D, "G_ema": G}, is_trusted):
        yield f"Resume:     {line}"


def check_metrics(metrics: Sequence[str]) -> None:
    """Refuse metrics that do not exist.

    Raises:
        UserError: One of them does not.
    """
    for metric in metrics:
        try:
            metric_main.require_metric(metric)
        except UserError as error:
            raise UserError(f"--metrics: {error}, or none") from error


def check_metric_set(kwargs: dict[str, Any], label_dim: int | None = None) -> None:
    """Open the images that metrics compare with, so that they do not fail in mid-training.

    Args:
        kwargs: Arguments of the training loop.
        label_dim: Width of the labels of the training set; None if it is not known.

    Raises:
        UserError: They are not a dataset, or their labels are not those of a conditional generator.
    """
    if not kwargs.get("metric_set_kwargs"):
        return
    is_conditional = kwargs["training_set_kwargs"].get("use_labels") and label_dim is not None
    try:
        with open_dataset(kwargs["metric_set_kwargs"]) as metric_set:
            if is_conditional and kwargs.get("metrics") and metric_set.label_dim != label_dim:
                raise UserError(
                    f"{metric_set.name} has labels of width {metric_set.label_dim}, but the generator is conditional "
                    f"on {label_dim} classes: give images with the same labels, or --metrics=none"
                )
    except UserError as error:
        raise UserError(f"--metricdata: {error}") from error


def existing_parent(path: Path) -> Path:
    """Return the path itself if there is such a file or folder, else the nearest of the folders above it."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
