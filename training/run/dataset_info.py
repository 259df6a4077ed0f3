"""The properties of a dataset that options and estimates depend on."""

from __future__ import annotations

from dataclasses import dataclass

from dnnlib.errors import UserError


@dataclass(frozen=True)
class DatasetInfo:
    """The properties of a dataset that options and estimates depend on."""

    name: str
    resolution: int
    """Side of the images in pixels."""
    num_images: int
    has_labels: bool
    label_dim: int = 0
    """Number of classes, or length of the label vectors."""
    num_channels: int = 3
    label_summary: str = "no labels"
    """The labels in a few words."""


def inspect_dataset(path: str, use_labels: bool, hint: str | None = None) -> DatasetInfo:
    """Open a dataset and describe it; labels are read only if they are used.

    Raises:
        UserError: It cannot be trained on; the line ends with ``hint``.
    """
    from training.dataset import ImageFolderDataset  # here: train.py --help must not wait for torch

    try:
        dataset = ImageFolderDataset(path=path, use_labels=use_labels)
        info = DatasetInfo(
            name=dataset.name,
            resolution=dataset.resolution,
            num_images=len(dataset),
            has_labels=dataset.has_labels,
            label_dim=dataset.label_dim,
            num_channels=dataset.num_channels,
            label_summary=dataset.label_summary,
        )
    except UserError as error:
        if hint is None:
            raise
        raise UserError(f"{error}; {hint}") from error
    dataset.close()
    return info
