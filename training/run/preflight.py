"""Checks before a run, of what would otherwise fail in the middle of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import torch

from dnnlib.errors import UserError
from dnnlib.formatting import plural
from dnnlib.object_names import construct_class_by_name
from metrics import metric_main
from metrics.datasets import open_dataset
from metrics.objects.registry import require_object_detector
from training.networks import DiscriminatorBlock
from training.run.construction import construct_loss, construct_networks, image_shape
from training.run.dataset_info import DatasetInfo
from training.run.rehearsal import META
from training.run.settings import TrainingSettings
from training.snapshots.transfer import transfer_snapshot

INVALID_FLAGS = "invalid flags"
"""Begins an error about flags, where one about a file would begin with its path."""

MIN_TRAINING_PX = 8
"""Smallest images: the discriminator has a block per resolution above 4 px, and at least one."""
MAX_TRIED_PX = 64
"""Largest images on which augmentation is tried out; some transforms fail on the smallest ones."""


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
            f"--freezed={num_frozen}: D has {plural(num_layers, 'layer')} that can be frozen: give 0 to {num_layers}"
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
                    f"on {plural(label_dim or 0, 'class')}: give images with the same labels, or --metrics=none"
                )
    except UserError as error:
        raise UserError(f"--metricdata: {error}") from error
