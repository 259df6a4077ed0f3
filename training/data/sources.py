"""Where ``dataset_tool.py`` takes images from: folders, zips, LSUN, CIFAR-10, MNIST and drawn scenes."""

from __future__ import annotations

import abc
import io
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from dnnlib.util import UserError
from training.data.archive import Archive, open_archive
from training.data.array_files import read_cifar10, read_mnist
from training.data.codec import image_names, load_image, open_image, read_image
from training.data.labels import Labels, labels_from_subfolders, read_labels
from training.data.scenes.scene import MAX_SIZE_PX, MIN_SIZE_PX, scene

ARRAY_FILES = {"cifar-10-python.tar.gz": read_cifar10, "train-images-idx3-ubyte.gz": read_mnist}
"""Readers of images and labels by the name of the file as downloaded."""


class SourceImage(NamedTuple):
    """An image, decoded and upright, and the objects in it: ``{"category": str, "box": [x0, y0, x1, y1] in px}``."""

    image: Image.Image
    objects: list[dict[str, Any]] | None = None


class Source(abc.ABC):
    """A sequence of images that can be pickled.

    Attributes:
        names: A name for each image, for messages.
        labels: Labels of all images in the same order, if there are any.
    """

    def __init__(self, names: list[str], labels: Labels | None) -> None:
        self.names = names
        self.labels = labels

    @abc.abstractmethod
    def read(self, index: int) -> SourceImage:
        """Read and decode an image; raise `BadImageError` if that fails."""


class ArchiveSource(Source):
    """Image files of a folder or zip."""

    def __init__(self, archive: Archive, max_images: int | None, subfolders_as_labels: bool) -> None:
        names = image_names(archive)[:max_images]
        if not names:
            raise UserError(f"{archive.path}: no image files found")
        super().__init__(names, labels_from_subfolders(names) if subfolders_as_labels else read_labels(archive, names))
        self._archive = archive

    def read(self, index: int) -> SourceImage:
        """Read and decode a file."""
        return SourceImage(load_image(read_image(self._archive, self.names[index])))


class LmdbSource(Source):
    """Encoded images in an LMDB, as LSUN is distributed."""

    def __init__(self, path: Path, max_images: int | None) -> None:
        self._path = path
        self._env: Any = None
        with self._environment().begin() as transaction:
            keys = transaction.cursor().iternext(values=False)
            self._keys = list(itertools.islice(keys, max_images))
        if not self._keys:
            raise UserError(f"{path}: the database is empty")
        super().__init__([key.decode("ascii", "backslashreplace") for key in self._keys], None)

    def read(self, index: int) -> SourceImage:
        """Read and decode a value."""
        with self._environment().begin() as transaction:
            return SourceImage(load_image(open_image(io.BytesIO(transaction.get(self._keys[index])))))

    def _environment(self) -> Any:
        if self._env is None:
            try:
                import lmdb
            except ImportError as err:
                raise UserError(f"{self._path}: LSUN needs the package lmdb: pip install '.[lsun]'") from err
            try:
                self._env = lmdb.open(str(self._path), readonly=True, lock=False)
            except lmdb.Error as err:
                raise UserError(f"{self._path} cannot be read as an LMDB: {err}") from err
        return self._env

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_env": None}


class ArraySource(Source):
    """Images that are all in memory.

    Args:
        images: uint8, [N, H, W] for grey or [N, H, W, 3].
        labels: Class numbers [N].
        path: The file they come from.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, path: Path) -> None:
        super().__init__([f"{path.name}[{index}]" for index in range(len(images))], Labels(labels.tolist()))
        self._images = images

    def read(self, index: int) -> SourceImage:
        """Look an image up."""
        return SourceImage(Image.fromarray(self._images[index]))


class ScenesSource(Source):
    """Drawn street scenes; see `training.data.scenes.scene`."""

    def __init__(self, num_images: int, side_px: int, seed: int) -> None:
        if not MIN_SIZE_PX <= side_px <= MAX_SIZE_PX:
            raise UserError(f"scenes are {MIN_SIZE_PX} to {MAX_SIZE_PX} pixels wide, not {side_px}")
        super().__init__([f"scene {index}" for index in range(num_images)], None)
        self._side_px = side_px
        self._seed = seed

    def read(self, index: int) -> SourceImage:
        """Draw a scene."""
        pixels, objects = scene(self._seed, index, self._side_px)
        return SourceImage(Image.fromarray(pixels), objects)


def open_source(path: Path, max_images: int | None = None, subfolders_as_labels: bool = False) -> Source:
    """Open images by what their path looks like (CONTRACT 5); only the first ``max_images`` are taken.

    Raises:
        UserError: No such path, not in the form its name promises, no images, or images without labels among others.
    """
    read_arrays = ARRAY_FILES.get(path.name)
    if read_arrays is None and not path.name.endswith("_lmdb"):
        return ArchiveSource(open_archive(path), max_images, subfolders_as_labels)
    if subfolders_as_labels:
        raise UserError(f"--subfolders-as-labels: {path} has no subfolders of images")
    if not path.exists():
        raise UserError(f"no such file or folder: {path}")
    if read_arrays is None:
        return LmdbSource(path, max_images)
    images, labels = read_arrays(path)
    return ArraySource(images[:max_images], labels[:max_images], path)
