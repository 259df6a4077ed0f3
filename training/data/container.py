"""Creation of a dataset: a zip or a folder that appears when it is complete."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from dnnlib.atomic import write_atomic
from dnnlib.errors import UserError
from dnnlib.signals import JOB_SIGNALS, available, signal_handlers
from training.data.spool import copy_content, temporary_file
from training.data.stored_zip import StoredZip

Save = Callable[[str, BinaryIO], None]
"""Stores the whole content of a seekable file under its path in the dataset."""

OTHER_FORMATS = (
    *(".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".zst", ".lz4", ".7z", ".rar"),
    *(".h5", ".hdf5", ".lmdb", ".mdb", ".npy", ".npz", ".parquet", ".tfrecord", ".tfrecords", ".zipx"),
    *(".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"),
    *(".csv", ".json", ".jsonl", ".pickle", ".pkl", ".tsv", ".txt"),
)
"""Extensions of other formats: whoever gives one does not expect a folder of that name."""


def check_dest(dest: Path, source: Path | None) -> None:
    """Check that a dataset may be created.

    Args:
        dest: The zip or folder to create.
        source: Where its images come from; None if it is no file or folder.

    Raises:
        UserError: ``dest`` exists and is not an empty folder, has the extension of another format, or lies inside the
            folder ``source``, where the next run would read it as input; or it is a folder beside which the list of
            skipped images cannot be written.
    """
    place = real_path(dest)
    if place.name.lower().endswith(OTHER_FORMATS):
        raise UserError(f"--dest={dest} cannot be written: give a name that ends in .zip, or the name of a folder")
    if source is not None and source.is_dir() and place.is_relative_to(source.resolve()):
        raise UserError(f"{dest} cannot be written inside --source={source}: the next run would read it as input")
    if not _is_free(place):
        raise UserError(f"{dest} exists: delete it or choose another --dest")
    if place.exists() and not os.access(place.parent, os.W_OK):  # a volume of a container, for example
        raise UserError(
            f"{place.parent}, the folder around --dest={dest}, cannot be written to: give a folder inside, such as "
            f"--dest={dest / 'dataset'}"
        )


def real_path(dest: Path) -> Path:
    """Return the absolute path without links: a dataset must not replace a link, and "." has no name."""
    return Path(os.path.realpath(dest))


def create_dataset(dest: Path, write: Callable[[Save], None]) -> None:
    """Create a zip, if ``dest`` ends in .zip, or a folder.

    An empty folder is filled rather than replaced: it may be a mount point, or the current folder of a shell.

    Args:
        dest: The `real_path` of a path that `check_dest` accepts; its parent exists.
        write: Saves all files with the function that it is given. If it raises an exception, nothing is created.

    Raises:
        OSError: The disk is full, for example.
        UserError: Another process has created ``dest`` meanwhile.
        SystemExit: By one of `dnnlib.signals.JOB_SIGNALS`, unless the caller handles or ignores them.
    """
    with _exit_on_signals():
        if _is_folder(dest):
            _create_folder(dest, write)
        else:
            write_atomic(dest, lambda file: _write_zip(file, dest, write))


def _exit_on_signals() -> AbstractContextManager[None]:
    """Let signals that would kill the process at once raise SystemExit, so that no partial files are left behind."""
    deadly = [number for number in available(*JOB_SIGNALS) if signal.getsignal(number) is signal.SIG_DFL]

    def leave(received: int, _frame: FrameType | None) -> None:
        for number in deadly:  # a terminal that closes may send several
            signal.signal(number, signal.SIG_IGN)
        raise SystemExit(128 + received)

    return signal_handlers(dict.fromkeys(deadly, leave))


def _is_folder(dest: Path) -> bool:
    return dest.suffix.lower() != ".zip"


def _is_free(place: Path, temp: Path | None = None) -> bool:
    """Return whether there is nothing, or, where a folder is to be, one that holds nothing but ``temp``."""
    if not place.exists():
        return True
    return _is_folder(place) and place.is_dir() and all(path == temp for path in place.iterdir())


def _check_again(dest: Path, temp: Path | None = None) -> None:
    if not _is_free(dest, temp):
        raise UserError(f"{dest} has been created by another process meanwhile: choose another --dest")


def _write_zip(file: BinaryIO, dest: Path, write: Callable[[Save], None]) -> None:
    with temporary_file(dest.parent) as directory:
        archive = StoredZip(file, directory)
        write(archive.add)
        archive.close()
    file.flush()
    os.fsync(file.fileno())  # it may take minutes, which must not lie between the check and the renaming
    _check_again(dest)


def _create_folder(dest: Path, write: Callable[[Save], None]) -> None:
    is_there = dest.is_dir()
    temp = (dest if is_there else dest.parent) / f".{dest.name}.{secrets.token_hex(4)}.tmp"

    def save(name: str, content: BinaryIO) -> None:
        path = temp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            copy_content(content, file)

    try:
        write(save)
        _check_again(dest, temp)
        if is_there:
            for path in sorted(temp.iterdir()):
                path.rename(dest / path.name)
            temp.rmdir()
        else:
            temp.rename(dest)
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise
