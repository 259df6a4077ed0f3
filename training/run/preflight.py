"""Checks before a run, and a summary of it with the memory and disk space that it needs."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from dnnlib.commands import page
from dnnlib.util import UserError, construct_class_by_name, format_time
from metrics import metric_main
from metrics.datasets import open_dataset
from metrics.objects.registry import require_object_detector
from training.networks import DiscriminatorBlock
from training.run.construction import construct_loss, construct_networks, image_shape
from training.run.dataset_info import DatasetInfo
from training.run.memory import describe_memory
from training.run.rehearsal import META
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


def describe_run(settings: TrainingSettings, dataset: DatasetInfo, outdir: Path, device: torch.device) -> str:
    """Describe a run in a few lines, with an estimate of its memory and disk space next to what there is.

    Raises:
        ValueError: Settings contradict each other or the dataset.
    """
    num_G, num_D = check_networks(settings, dataset)
    snapshot_gib = BYTES_PER_FLOAT * (2 * num_G + num_D) / 2**30
    checkpoint_gib = BYTES_PER_FLOAT * (4 * num_G + 3 * num_D) / 2**30
    num_snapshots = _num_snapshots(settings)
    disk_gib = 3 * checkpoint_gib + num_snapshots * snapshot_gib
    free_gib = shutil.disk_usage(existing_parent(outdir)).free / 2**30
    method = settings.D_kwargs["class_name"].rpartition(".")[2]
    lines = [
        f"Images:     {dataset.num_images} of {dataset.resolution} px, {dataset.label_summary}",
        f"Networks:   G {num_G / 1e6:.1f} M parameters, D {num_D / 1e6:.1f} M ({method})",
        f"Batch:      {settings.batch_size} images, {settings.num_gpus} process(es), {settings.batch_gpu} per pass",
        _describe_length(settings),
        *describe_memory(settings, dataset, device),
        f"Disk:       about {disk_gib:.1f} GiB for {num_snapshots} snapshots and the checkpoints, "
        f"{free_gib:.1f} GiB free",
    ]
    if disk_gib > free_gib:
        lines.append("Warning: the disk may run full; raise --snap, lower --kimg or choose another --outdir")
    if settings.num_bf16_res and not _is_bfloat16_fast(device):
        lines.append(f"Warning: bfloat16 is slower than float32 here; see {page('training.md')}")
    return "\n".join(lines)


def _is_bfloat16_fast(device: torch.device) -> bool:
    """Return whether the device computes in bfloat16: on CPUs only AMX pays (docs/training.md)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return capabilities.get("amx_bf16", False)


def _describe_length(settings: TrainingSettings) -> str:
    ticks = settings.network_snapshot_ticks or math.inf
    limit_sec = settings.time_limit_sec
    if limit_sec is None:
        every = f"{settings.kimg_per_tick * ticks:g} kimg"
    else:
        every = format_time(limit_sec / num_ticks(limit_sec) * min(ticks, num_ticks(limit_sec)))
    return f"Length:     {describe_length(settings.total_kimg, limit_sec)}; samples and a snapshot every {every}"


def _num_snapshots(settings: TrainingSettings) -> int:
    if settings.network_snapshot_ticks is None:
        return 0
    if settings.time_limit_sec is not None:
        return math.ceil(num_ticks(settings.time_limit_sec) / settings.network_snapshot_ticks) + 1
    return math.ceil(settings.total_kimg / settings.kimg_per_tick / settings.network_snapshot_ticks) + 1


def check_networks(settings: TrainingSettings, dataset: DatasetInfo) -> tuple[int, int]:
    """Construct everything a run consists of without allocating the weights, and count the parameters of G and D.

    Raises:
        ValueError: Settings contradict each other, or do not fit the images.
    """
    if dataset.resolution < MIN_TRAINING_PX:
        raise ValueError(f"images of {dataset.resolution} px are too small: training needs {MIN_TRAINING_PX} or more")
    without_pipe = _without_pipe(settings)
    with META:
        networks = construct_networks(without_pipe, image_shape(settings, dataset), META)
        construct_loss(without_pipe, networks, META)
    if settings.augment_kwargs is not None and dataset.resolution <= MAX_TRIED_PX:
        pipe = construct_class_by_name(**settings.augment_kwargs)
        with torch.random.fork_rng([]):
            pipe(torch.zeros([1, dataset.num_channels, dataset.resolution, dataset.resolution]))
    num_G, num_D = (sum(parameter.numel() for parameter in network.parameters()) for network in networks[:2])
    return num_G, num_D


def check_frozen_layers(settings: TrainingSettings, dataset: DatasetInfo) -> None:
    """Refuse to freeze more layers of D than it has.

    Raises:
        ValueError: It has fewer.
    """
    with META:
        D = construct_networks(_without_pipe(settings), image_shape(settings, dataset), META).D
    num_frozen = settings.D_kwargs.get("block_kwargs", {}).get("freeze_layers", 0)
    num_layers = sum(block.num_layers for block in D.modules() if isinstance(block, DiscriminatorBlock))
    if num_frozen > num_layers:
        raise ValueError(
            f"--freezed={num_frozen}: D has {num_layers} layers that can be frozen: give 0 to {num_layers}"
        )


def _without_pipe(settings: TrainingSettings) -> TrainingSettings:
    """Leave out the augmentation pipe, whose filters need values, which the meta device has none of."""
    return dataclasses.replace(settings, augment_kwargs=None)


def try_transfer(settings: TrainingSettings, dataset: DatasetInfo, is_trusted: bool) -> Iterator[str]:
    """Open the snapshot to resume from, if any, copy its weights into networks of this run, and yield lines about it.

    Raises:
        UserError: It cannot be read, or does not fit.
    """
    if settings.resume_pkl is None:
        return
    G, D, _pipe = construct_networks(_without_pipe(settings), image_shape(settings, dataset), torch.device("cpu"))
    for line in transfer_snapshot(settings.resume_pkl, {"G": G, "D": D, "G_ema": G}, is_trusted):
        yield f"Resume:     {line}"


def check_metrics(metrics: Sequence[str], object_detector: str | None = None) -> None:
    """Refuse metrics, and a detector of their objects, that do not exist.

    Raises:
        UserError: One of them does not.
    """
    if object_detector is not None:
        require_object_detector(object_detector)
    for metric in metrics:
        try:
            metric_main.require_metric(metric)
        except UserError as error:
            raise UserError(f"--metrics: {error}, or none") from error


def check_metric_set(settings: TrainingSettings, label_dim: int | None = None) -> None:
    """Open the images that metrics compare with, so that they do not fail in mid-training.

    Args:
        settings: Settings of the run.
        label_dim: Width of the labels of the training set; None if it is not known.

    Raises:
        UserError: They are not a dataset, or their labels are not those of a conditional generator.
    """
    if not settings.metric_set_kwargs:
        return
    is_conditional = settings.uses_labels and label_dim is not None
    try:
        with open_dataset(settings.metric_set_kwargs) as metric_set:
            if is_conditional and settings.metrics and metric_set.label_dim != label_dim:
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
