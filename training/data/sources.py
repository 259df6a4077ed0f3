"""Where ``dataset_tool.py`` takes images from: folders, zips, LSUN, CIFAR-10, MNIST and drawn scenes."""

from __future__ import annotations

import functools
import io
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from dnnlib.commands import how_to_install
from dnnlib.errors import UserError
from training.data.archive import open_archive
from training.data.archive_base import Archive
from training.data.array_files import read_cifar10, read_mnist
from training.data.codec import BadImageError, ignored_files, load_image, open_image, read_image, require_images
from training.data.labels import Labels, class_folder, labels_from_subfolders, read_labels, unread_labels
from training.data.names import is_hidden
from training.data.scenes.scene import MAX_SIZE_PX, MIN_SIZE_PX, scene

ARRAY_FILES = {"cifar-10-python.tar.gz": read_cifar10, "train-images-idx3-ubyte.gz": read_mnist}
"""Readers of images and labels, by the name of the file as downloaded."""

MAX_PHOTO_PX = 256 << 20
"""Maximum number of pixels of a photograph; decoding it takes 1 GiB of memory, and cropping it as much again."""


class LargeImageError(BadImageError):
    """An image with more pixels than the reader was allowed to decode."""


class Item(NamedTuple):
    """The name of an image, for messages, and what it is read by."""

    name: str
    key: Any


class SourceImage(NamedTuple):
    """An image, decoded and upright, and the objects in it: ``{"category": str, "box": [x0, y0, x1, y1] in px}``."""

    image: Image.Image
    objects: list[dict[str, Any]] | None = None


Read = Callable[[Any, int], SourceImage]
"""Reads and decodes an image, given its key and the largest number of pixels to decode. Raises `BadImageError`."""


@dataclass(frozen=True)
class Source:
    """A sequence of images.

    Attributes:
        num_images: Length of the sequence.
        items: Yields the items, in the same order at each call.
        read: Reads the image of an item; it can be pickled.
        labels: Labels of all images in the same order, if there are any.
        has_own_classes: Whether the class numbers were made up here and may be changed.
        has_files: Whether each image is a file, or an entry of a database.
        ignored: Names of files that are not images, by reason.
        folders_without_images: Folders that would be classes if they contained images.
        unread_labels: Which labels are there but do not count, in a sentence.
    """

    num_images: int
    items: Callable[[], Iterator[Item]]
    read: Read
    labels: Labels | None = None
    has_own_classes: bool = False
    has_files: bool = False
    ignored: Mapping[str, Sequence[str]] = field(default_factory=dict)
    folders_without_images: Sequence[str] = ()
    unread_labels: str | None = None


def archive_source(
    archive: Archive, max_images: int | None, subfolders_as_labels: bool, needs_labels: bool = True
) -> Source:
    """Return the image files of a folder or zip.

    Args:
        archive: The files.
        max_images: Maximum number of images.
        subfolders_as_labels: Number the top-level folders as classes.
        needs_labels: Refuse labels that are damaged or incomplete, instead of leaving them out.

    Raises:
        UserError: No images, or images without a label although others have one.
    """
    all_names = require_images(archive)
    names = all_names[:max_images]
    folder = class_folder(all_names) if subfolders_as_labels else ""
    try:
        labels = labels_from_subfolders(names, folder) if subfolders_as_labels else read_labels(archive, names)
        unread = unread_labels(archive) if labels is None else None
    except UserError:
        if needs_labels:
            raise
        labels = unread = None
    ignored = ignored_files(archive)
    return Source(
        num_images=len(names),
        items=lambda: (Item(names[index], names[index]) for index in range(len(names))),
        read=functools.partial(_read_file, archive),
        labels=labels,
        has_own_classes=subfolders_as_labels,
        has_files=True,
        ignored=ignored,
        folders_without_images=_folders_without_images(all_names, ignored, folder) if subfolders_as_labels else (),
        unread_labels=unread,
    )


def _folders_without_images(names: Iterable[str], ignored: Mapping[str, Sequence[str]], parent: str) -> list[str]:
    """Return the subfolders of ``parent`` that contain no images but other files, unless these are hidden."""
    others = (name for names in ignored.values() for name in names if not is_hidden(name))
    others = (name.removeprefix(parent) for name in others if name.startswith(parent))
    folders = {name.split("/")[0] for name in others if "/" in name}
    return sorted(folders - {name.removeprefix(parent).split("/")[0] for name in names}) if folders else []


def _read_file(archive: Archive, name: str, max_px: int) -> SourceImage:
    return _load(read_image(archive, name, MAX_PHOTO_PX), max_px)


def _load(image: Image.Image, max_px: int) -> SourceImage:
    if image.width * image.height > max_px:
        raise LargeImageError(f"has {image.width}x{image.height} pixels, more than {max_px >> 20} Mpx")
    return SourceImage(load_image(image))


def lmdb_source(path: Path, max_images: int | None) -> Source:
    """Return the encoded images in an LMDB, as LSUN is distributed.

    Raises:
        UserError: The package lmdb is missing, or this is not an LMDB, or it is truncated or empty.
    """
    database = _Lmdb(path)
    num_images = min(database.num_entries(), max_images or sys.maxsize)
    if not num_images:
        raise UserError(f"{path}: the database is empty")

    def items() -> Iterator[Item]:
        keys = itertools.islice(database.keys(), num_images)
        return (Item(key.decode("ascii", "backslashreplace"), key) for key in keys)

    return Source(num_images, items, database.read, has_files=True)


class _Lmdb:
    """An LMDB, which each process opens for itself."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._environment: Any = None

    def num_entries(self) -> int:
        return self._open().stat()["entries"]

    def keys(self) -> Iterator[bytes]:
        with self._open().begin() as transaction:
            yield from transaction.cursor().iternext(values=False)

    def read(self, key: bytes, max_px: int) -> SourceImage:
        with self._open().begin() as transaction:
            return _load(open_image(io.BytesIO(transaction.get(key)), MAX_PHOTO_PX), max_px)

    def _open(self) -> Any:
        if self._environment is None:
            try:
                import lmdb
            except ImportError as err:
                raise UserError(f"{self._path}: LSUN needs the package lmdb: {how_to_install('lsun')}") from err
            try:
                environment = lmdb.open(str(self._path), readonly=True, lock=False)
                self._refuse_truncated(environment)
            except (lmdb.Error, OSError) as err:
                raise UserError(f"{self._path} cannot be read as an LMDB: {err}") from err
            self._environment = environment
        return self._environment

    def _refuse_truncated(self, environment: Any) -> None:
        """Reading pages beyond the end of the file would kill the process."""
        num_bytes = (self._path / "data.mdb").stat().st_size
        expected_bytes = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        if num_bytes < expected_bytes:
            raise UserError(f"{self._path}: data.mdb has {num_bytes} of {expected_bytes} bytes; download it again")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_environment": None}


def array_source(images: np.ndarray, labels: np.ndarray, path: Path) -> Source:
    """Return images that are in memory.

    Args:
        images: uint8, [N, H, W] for grey or [N, H, W, 3].
        labels: Class numbers [N].
        path: The file they come from.
    """
    return Source(
        num_images=len(images),
        items=lambda: (Item(f"{path.name}[{index}]", image) for index, image in enumerate(images)),
        read=_from_array,
        labels=Labels(labels.astype(np.int64)),
    )


def _from_array(pixels: np.ndarray, _max_px: int) -> SourceImage:
    return SourceImage(Image.fromarray(pixels))


def scenes_source(num_images: int, side_px: int, seed: int) -> Source:
    """Return drawn street scenes; see `training.data.scenes.scene`.

    Raises:
        UserError: Scenes cannot be drawn at this size.
    """
    if not MIN_SIZE_PX <= side_px <= MAX_SIZE_PX:
        raise UserError(f"scenes can be {MIN_SIZE_PX} to {MAX_SIZE_PX} pixels wide, not {side_px}")
    return Source(
        num_images,
        items=lambda: (Item(f"scene {index}", index) for index in range(num_images)),
        read=functools.partial(_draw_scene, seed, side_px),
    )


def _draw_scene(seed: int, side_px: int, index: int, _max_px: int) -> SourceImage:
    pixels, objects = scene(seed, index, side_px)
    return SourceImage(Image.fromarray(pixels), objects)


def open_source(
    path: Path, max_images: int | None = None, subfolders_as_labels: bool = False, needs_labels: bool = True
) -> Source:
    """Open a source of images, whose kind follows from its name.

    Args:
        path: The source.
        max_images: Maximum number of images.
        subfolders_as_labels: Number the top-level folders as classes.
        needs_labels: Refuse labels of files that are damaged or incomplete, instead of leaving them out.

    Raises:
        UserError: There is no such path, it is not what its name promises, it holds no images, or images without a
            label although others have one.
    """
    read_arrays = ARRAY_FILES.get(path.name)
    if read_arrays is None and not path.name.endswith("_lmdb"):
        return archive_source(open_archive(path), max_images, subfolders_as_labels, needs_labels)
    if subfolders_as_labels:
        raise UserError(f"--subfolders-as-labels: {path} has no subfolders of images")
    if not path.exists():
        raise UserError(f"no such file or folder: {path}")
    if read_arrays is None:
        return lmdb_source(path, max_images)
    images, labels = read_arrays(path)
    return array_source(images[:max_images], labels[:max_images], path)
