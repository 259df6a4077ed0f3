"""Photographs of any size as training data: prepared once, into a dataset beside the runs.

``OUTDIR/datasets/NAME-64px.zip`` is the dataset of ``--data=NAME --size=64``; ``NAME-64px.source.json`` says of which
files and how it was made. If the photographs change, they are prepared into another dataset, ``NAME-64px-2.zip``, as
runs that began with the first one continue with it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import filelock

from dnnlib.errors import UserError
from dnnlib.formatting import plural
from dnnlib.heartbeat import heartbeat
from dnnlib.json_file import write_json
from training.data.archive import open_archive
from training.data.codec import require_images
from training.data.container import check_dest
from training.data.file_tree import list_files
from training.data.labels import class_folder, label_width, read_labels
from training.data.layout import is_resolution
from training.data.names import is_hidden
from training.data.preparation import MAX_BITS, Preparation
from training.data.sources import Source, open_source
from training.data.summary import summary
from training.data.writer import write_dataset
from training.run.dataset_info import DatasetInfo
from training.run.flags import STRETCH, Flags
from training.run.json_files import read_json_object
from training.run.preflight import MIN_TRAINING_PX

FOLDER = "datasets"
FORMAT = 3
"""Increased when the same photographs would become another dataset."""
MAX_KEY_BYTES = 1 << 16


@dataclass(frozen=True)
class PhotographFlags:
    """How photographs become training images."""

    size_px: int
    """Side of the images."""
    transform: str = Flags.transform
    """One of `training.data.preparation.TRANSFORMS`, or `STRETCH`."""


def prepare_photographs(data: str, flags: PhotographFlags, use_labels: bool, outdir: Path) -> Path:
    """Return the dataset of some photographs, and prepare it unless that was done before.

    Args:
        data: Folder or zip of images, or another source that ``dataset_tool.py`` reads.
        flags: Size and transform.
        use_labels: Whether to number the top-level folders as classes, if no ``dataset.json`` has labels.
        outdir: Folder of the runs.

    Raises:
        UserError: They cannot be read, or the dataset cannot be written.
    """
    _check_size(flags.size_px)
    source = Path(data).absolute()
    with heartbeat(lambda: f"Still listing {data} ..."):
        key = _key(source, flags, use_labels)
    folder = outdir.absolute() / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            dest, is_ready = _find_dest(folder, source, flags, key)
            if is_ready:
                print(f"Dataset:    {dest}, prepared before from the same files of {data}")
                return dest
            _prepare(source, dest, flags, use_labels, key)
    except OSError as error:
        raise UserError(f"--outdir: {folder} cannot be written to: {error.strerror or error}") from error
    return dest


def describe_photographs(data: str, flags: PhotographFlags, use_labels: bool) -> DatasetInfo:
    """Describe the dataset that `prepare_photographs` would make, from a list of the files; nothing is written.

    Raises:
        UserError: They cannot be read.
    """
    _check_size(flags.size_px)
    source = Path(data).absolute()
    with heartbeat(lambda: f"Still listing {data} ..."):
        images = _open(source, use_labels)
    labels = images.labels if use_labels else None
    num_classes = 0 if labels is None else label_width(labels.as_array())
    return DatasetInfo(
        name=_base_name(source, flags),
        resolution=flags.size_px,
        num_images=images.num_images,
        has_labels=num_classes > 0,
        label_dim=num_classes,
        label_summary=plural(num_classes, "class") if num_classes else "no labels",
    )


def is_prepared(dataset: str) -> bool:
    """Return whether a dataset was prepared from photographs."""
    return read_json_object(_key_file(Path(dataset)), MAX_KEY_BYTES) is not None


@dataclass(frozen=True)
class Origin:
    """How some photographs relate to a dataset."""

    is_source: bool
    """Whether it was prepared from them, now in this place or another."""
    has_changed: bool
    """Whether they are others than those that it was prepared from."""


def compare_source(dataset: str, data: str) -> Origin:
    """Compare the photographs at ``data`` with those from which a dataset was prepared, if it was."""
    key, source = read_json_object(_key_file(Path(dataset)), MAX_KEY_BYTES), Path(data).absolute()
    if key is None:
        return Origin(is_source=False, has_changed=False)
    with heartbeat(lambda: f"Still listing {data} ..."):
        is_same = source.exists() and key.get("files") == _hash_files(source)
    is_source = is_same or key.get("source") == str(source)
    return Origin(is_source, has_changed=source.exists() and not is_same)


def _check_size(size_px: int) -> None:
    if size_px < MIN_TRAINING_PX or not is_resolution(size_px):
        raise UserError(f"--size must be a power of two from {MIN_TRAINING_PX} pixels, not {size_px}")


def _key(source: Path, flags: PhotographFlags, use_labels: bool) -> dict[str, Any]:
    """Return everything that a dataset depends on; files by name, size and time, as reading them would take minutes."""
    return {
        "format": FORMAT,
        "source": str(source),
        "size_px": flags.size_px,
        "transform": flags.transform,
        "folders_as_labels": use_labels and _folders_as_labels(source),
        "files": _hash_files(source),
    }


def _hash_files(source: Path) -> str:
    if not source.exists():
        raise UserError(f"no such file or folder: {source}")
    names = sorted(name for name in list_files(source).files if not is_hidden(name)) if source.is_dir() else [""]
    digest = hashlib.sha256()
    for name in names:
        try:
            status = (source / name if name else source).stat()
        except OSError as error:  # it has just been removed
            raise UserError(f"{source / name} cannot be read: {error.strerror or error}") from error
        digest.update(os.fsencode(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0"))
    return digest.hexdigest()


def _folders_as_labels(source: Path) -> bool | str:
    """Return whether the top-level folders become classes: if there are any, and the images have no labels.

    If they all lie in one folder, whose subfolders become classes, this is returned.
    """
    if not (source.is_dir() or source.suffix.lower() == ".zip"):
        return False
    with closing(open_archive(source)) as archive:
        names = require_images(archive)
        return (
            any("/" in name for name in names) and read_labels(archive, names) is None and (class_folder(names) or True)
        )


def _open(source: Path, use_labels: bool) -> Source:
    is_of_folders = use_labels and bool(_folders_as_labels(source))
    return open_source(source, subfolders_as_labels=is_of_folders, needs_labels=use_labels)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one run at a time prepare datasets in ``folder``; the next one finds its dataset."""
    lock = filelock.FileLock(folder / ".lock")
    text = f"Waiting for another run that prepares a dataset; if there is none, delete {lock.lock_file}"
    with heartbeat(lambda: None if lock.is_locked else text):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _base_name(source: Path, flags: PhotographFlags) -> str:
    name = source.name.removesuffix(".zip") or "photographs"
    return f"{name}-{flags.size_px}px" + (f"-{flags.transform}" if flags.transform != Flags.transform else "")


def _find_dest(folder: Path, source: Path, flags: PhotographFlags, key: dict[str, Any]) -> tuple[Path, bool]:
    """Return the path of the dataset of ``key``, or a free one for it, and whether it is complete."""
    base = _base_name(source, flags)
    for number in count(1):
        dest = folder / (f"{base}.zip" if number == 1 else f"{base}-{number}.zip")
        if read_json_object(_key_file(dest), MAX_KEY_BYTES) == key and dest.is_file():
            return dest, True
        if not dest.exists():  # new, or its preparation was interrupted
            if number > 1:
                print(f"The photographs or the way to prepare them have changed; {base}.zip stays for earlier runs")
            return dest, False
    raise AssertionError


def _prepare(source: Path, dest: Path, flags: PhotographFlags, use_labels: bool, key: dict[str, Any]) -> None:
    print(f"Preparing {source} for training at {flags.size_px} px ({flags.transform}) ...", flush=True)
    check_dest(dest, source)
    transform = None if flags.transform == STRETCH else flags.transform
    preparation = Preparation(
        mode="rgb", transform=transform, width_px=flags.size_px, height_px=flags.size_px, resize_filter="lanczos"
    )
    with heartbeat(lambda: f"Still reading {source} ..."):
        images = _open(source, use_labels)
    # The key comes first: a dataset without one would never be used.
    write_json(_key_file(dest), key, indent=2)
    report = write_dataset(images, dest, preparation, skip_bad=True, num_workers=os.cpu_count() or 1)
    if _hash_files(source) != key["files"]:
        dest.unlink()
        raise UserError(f"{source} has changed while it was prepared; start again when it is complete")
    lines = list(summary(report, dest, MAX_BITS))
    print("\n".join(lines[:-1]))  # the last one says how to train


def _key_file(dataset: Path) -> Path:
    return dataset.with_name(f"{dataset.stem}.source.json")
