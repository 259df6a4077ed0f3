"""The images and labels to train on, in a fixed order, with or without mirrored copies; damaged files are skipped."""

from __future__ import annotations

import functools
import itertools
import os
import sys
from typing import Any

import numpy as np
import torch

from dnnlib.errors import UserError
from dnnlib.util import EasyDict
from training.data.archive import open_archive
from training.data.archive_base import OBJECTS_FILE
from training.data.codec import BadImageError, load_image, read_image, require_images
from training.data.labels import describe_labels, label_width, rank_labels, read_labels, unread_labels
from training.data.layout import NUM_CHANNELS, ImageLayout, common_layout
from training.data.names import shown
from training.data.objects import Objects, read_objects

MAX_SKIPPED_FRACTION = 0.001
"""Share of a dataset's images that may turn out to be damaged before training stops."""


class Dataset(torch.utils.data.Dataset[tuple[np.ndarray, np.ndarray]]):
    """Indexed images with labels, in the order of StyleGAN2-ADA's datasets (docs/compatibility.md).

    Subclasses override `_load_raw_image` and `_load_raw_labels`.

    Item i is a pair of a uint8 image [C, H, W] and a float32 label [label_dim]. An image whose loading raises
    `BadImageError` is reported and left out from then on: the next readable item, label included, takes its place.

    Args:
        name: Name for messages and run folders.
        raw_shape: [N, C, H, W] of all images before a subset is taken.
        max_size: Maximum number of images; of more, a random subset is kept.
        use_labels: Whether to load labels; otherwise, and where there are none, label_dim is 0.
        xflip: Append a mirrored copy of every image.
        random_seed: Random seed of the subset.
    """

    def __init__(
        self,
        name: str,
        raw_shape: list[int],
        max_size: int | None = None,
        use_labels: bool = False,
        xflip: bool = False,
        random_seed: int = 0,
    ) -> None:
        self._name = name
        self._raw_shape = list(raw_shape)
        self._use_labels = use_labels
        self._raw_labels: np.ndarray | None = None
        raw_idx = np.arange(raw_shape[0], dtype=np.int64)
        if max_size is not None and max_size < raw_idx.size:
            np.random.RandomState(random_seed).shuffle(raw_idx)
            raw_idx = np.sort(raw_idx[:max_size])
        self._num_images = raw_idx.size
        self._raw_idx = np.tile(raw_idx, 2 if xflip else 1)
        # One flag per raw image in shared memory: the main process counts what the workers of its data loaders skip.
        self._is_skipped = torch.zeros(raw_shape[0], dtype=torch.bool).share_memory_()

    def _load_raw_image(self, raw_idx: int) -> np.ndarray:
        """Load an image, uint8 [C, H, W]; raise `BadImageError` if it is damaged."""
        raise NotImplementedError

    def _load_raw_labels(self) -> np.ndarray | None:
        """Load all labels, int64 [N] or float32 [N, label_dim]; None if there are none."""
        raise NotImplementedError

    def close(self) -> None:
        """Close open files; the next access opens them again."""

    def __len__(self) -> int:
        return self._raw_idx.size

    def __getitem__(self, idx: int) -> tuple[np.ndarray, np.ndarray]:
        idx = range(len(self))[idx]
        for candidate in itertools.chain(range(idx, len(self)), range(idx)):
            image = self._load_image(candidate)
            if image is not None:
                return image, self.get_label(candidate)
        raise UserError(f"{self.name}: no image can be read")

    def _load_image(self, idx: int) -> np.ndarray | None:
        """Load item ``idx``, mirrored if it is a mirrored copy; None if its file is damaged."""
        raw_idx = int(self._raw_idx[idx])
        if self._is_skipped[raw_idx]:
            return None
        try:
            image = self._load_raw_image(raw_idx)
        except BadImageError as err:
            self._skip(raw_idx, err)
            return None
        assert (image.dtype, list(image.shape)) == (np.uint8, self.image_shape)
        return image[:, :, ::-1].copy() if self._is_mirrored(idx) else image

    def _skip(self, raw_idx: int, err: BadImageError) -> None:
        self._is_skipped[raw_idx] = True
        print(f"Skipping image {raw_idx} of {self.name}: {err}", file=sys.stderr, flush=True)
        if self.num_skipped > MAX_SKIPPED_FRACTION * self._num_images:
            raise UserError(
                f"{self.name}: {self.num_skipped} of {self._num_images} images are damaged, at most "
                f"{MAX_SKIPPED_FRACTION:.1%} may be (dataset_tool.py --verify lists them); the last one: {err}"
            )

    def _is_mirrored(self, idx: int) -> bool:
        return idx >= self._num_images

    @property
    def num_skipped(self) -> int:
        """Number of images found damaged so far, by this process and by the workers of its data loaders."""
        return int(self._is_skipped.sum())

    def get_label(self, idx: int) -> np.ndarray:
        """Return the label of item ``idx``, float32 [label_dim]: one-hot for class numbers, else the vector itself."""
        label = self._all_raw_labels()[self._raw_idx[idx]]
        if self.has_onehot_labels:
            return np.eye(1, self.label_dim, label, dtype=np.float32)[0]
        return label.copy()

    def label_ranks(self) -> np.ndarray:
        """Rank the items' labels in the order of their bytes, int64 [len(self)]; equal labels have equal ranks."""
        if type(self).get_label is not Dataset.get_label:  # a subclass with labels of its own
            return rank_labels(map(self.get_label, range(len(self))))
        labels = self._all_raw_labels()
        if self.has_onehot_labels:
            return -labels[self._raw_idx]  # the 1 of a smaller number stands further ahead
        return rank_labels(labels)[self._raw_idx]

    def get_details(self, idx: int) -> EasyDict:
        """Describe item ``idx``: ``raw_idx``, ``xflip`` (bool) and ``raw_label`` (class number or vector)."""
        idx = range(len(self))[idx]
        raw_idx = int(self._raw_idx[idx])
        return EasyDict(raw_idx=raw_idx, xflip=self._is_mirrored(idx), raw_label=self._all_raw_labels()[raw_idx].copy())

    def _all_raw_labels(self) -> np.ndarray:
        if self._raw_labels is None:
            labels = self._load_raw_labels() if self._use_labels else None
            self._raw_labels = np.zeros([self._raw_shape[0], 0], dtype=np.float32) if labels is None else labels
            self._check_labels(self._raw_labels)
        return self._raw_labels

    def _check_labels(self, labels: np.ndarray) -> None:
        is_numbers = labels.dtype == np.int64 and labels.ndim == 1 and bool((labels >= 0).all())
        if len(labels) != self._raw_shape[0] or not (is_numbers or (labels.dtype == np.float32 and labels.ndim == 2)):
            raise ValueError(
                f"{self.name}: labels are {labels.dtype} {list(labels.shape)}; {self._raw_shape[0]} images need class "
                f"numbers from 0, int64 [N], or vectors, float32 [N, D]"
            )

    @property
    def name(self) -> str:
        """Name for messages and run folders."""
        return self._name

    @property
    def image_shape(self) -> list[int]:
        """[C, H, W]."""
        return self._raw_shape[1:]

    @property
    def num_channels(self) -> int:
        """3 for RGB, 1 for grey."""
        return self._raw_shape[1]

    @property
    def resolution(self) -> int:
        """Side of the square images in pixels."""
        assert self._raw_shape[2] == self._raw_shape[3]
        return self._raw_shape[2]

    @functools.cached_property
    def label_shape(self) -> list[int]:
        """[number of classes], [length of the vectors], or [0] without labels."""
        return [label_width(self._all_raw_labels())]

    @property
    def label_dim(self) -> int:
        """Length of the labels that items carry; 0 without labels."""
        return self.label_shape[0]

    @property
    def has_labels(self) -> bool:
        """Whether items carry labels."""
        return self.label_dim > 0

    @property
    def has_onehot_labels(self) -> bool:
        """Whether the labels are class numbers, served as one-hot vectors."""
        return self._all_raw_labels().dtype == np.int64


class ImageFolderDataset(Dataset):
    """The images in a folder or zip, sorted by path, with the labels in its ``dataset.json``.

    Args:
        path: Folder or zip of square images with the same power-of-two side, all RGB or all grey.
        resolution: Expected side in pixels. Default: any.
        **super_kwargs: Those of `Dataset`, name and raw_shape excepted.

    Attributes:
        archive: The folder or zip.
        label_summary: The labels in words, or that there are none or that none are used.
        has_objects: Whether the objects in the images are known: `get_objects`.

    Raises:
        UserError: There are no images, they differ or cannot be trained on, the resolution is another one, the zip is
            refused, or the labels are malformed. Without ``use_labels`` labels are not read.
    """

    def __init__(self, path: str | os.PathLike[str], resolution: int | None = None, **super_kwargs: Any) -> None:
        self.archive = open_archive(path)
        self._names = require_images(self.archive)
        self._layout = common_layout(self.archive, self._names)
        side_px = self._layout.width
        if resolution is not None and resolution != side_px:
            raise UserError(f"{path}: images are {self._layout}, asked for resolution {resolution}")
        raw_shape = [len(self._names), NUM_CHANNELS[self._layout.mode], side_px, side_px]
        super().__init__(name=self.archive.path.absolute().stem, raw_shape=raw_shape, **super_kwargs)
        labels = self._all_raw_labels()  # now, so that loader processes inherit the array instead of parsing it again
        self.label_summary = describe_labels(labels) if self.has_labels else "no labels"
        self.has_objects = self.archive.find_record(OBJECTS_FILE) is not None

    def close(self) -> None:
        """Close the zip; the next access opens it again."""
        self.archive.close()

    def get_objects(self, idx: int) -> list[dict[str, Any]] | None:
        """Return the objects in item ``idx`` (`training.data.objects`); None if not known, or for a mirrored copy."""
        idx = range(len(self))[idx]
        if self._is_mirrored(idx) or self._objects is None:
            return None
        return self._objects.get(self._names[int(self._raw_idx[idx])])

    @functools.cached_property
    def _objects(self) -> Objects | None:
        return read_objects(self.archive)

    def _load_raw_image(self, raw_idx: int) -> np.ndarray:
        name = self._names[raw_idx]
        try:
            image = read_image(self.archive, name)
            if ImageLayout.of(image) != self._layout:
                raise BadImageError(f"is {ImageLayout.of(image)}, the others are {self._layout}")
            pixels = np.asarray(load_image(image))
        except BadImageError as err:
            raise BadImageError(f"{shown(name)} {err}") from err
        return pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1).copy()

    def _load_raw_labels(self) -> np.ndarray | None:
        labels = read_labels(self.archive, self._names)
        if labels is not None:
            return labels.as_array()
        if unread := unread_labels(self.archive):
            raise UserError(f"{self.archive.path}: {unread}")
        return None
