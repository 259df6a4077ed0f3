"""Creation of a dataset: a zip or a folder that appears when it is complete."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from dnnlib.atomic import write_atomic
from dnnlib.util import UserError
from training.data.spool import copy_content, temporary_file
from training.data.stored_zip import StoredZip

Save = Callable[[str, BinaryIO], None]
"""Stores the whole content of a seekable file under its path in the dataset."""

OTHER_FORMATS = (
    *(".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".zst", ".lz4", ".7z", ".rar"),
    *(".h5", ".hdf5", ".lmdb", ".mdb", ".npy", ".npz", ".parquet", ".tfrecord", ".tfrecords"),
)
"""Extensions of other formats in which many images are kept."""


def check_dest(dest: Path, source: Path | None) -> None:
    """Check that a dataset may be created.

    Args:
        dest: The zip or folder to create.
        source: Where its images come from; None if it is no file or folder.

    Raises:
        UserError: ``dest`` exists and is not an empty folder, has the extension of another format, or lies inside the
            folder ``source``, where the next run would read it as input.
    """
    if dest.name.lower().endswith(OTHER_FORMATS):
        raise UserError(f"--dest={dest} cannot be written: give a name that ends in .zip, or the name of a folder")
    if source is not None and source.is_dir() and dest.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{dest} cannot be written inside --source={source}: the next run would read it as input")
    if dest.exists() and not (_is_folder(dest) and dest.is_dir() and not any(dest.iterdir())):
        raise UserError(f"{dest} exists: delete it or choose another --dest")


def create_dataset(dest: Path, write: Callable[[Save], None]) -> None:
    """Create a zip, if ``dest`` ends in .zip, or a folder.

    Args:
        dest: A path that `check_dest` accepts; its parent exists.
        write: Saves all files with the function that it is given. If it raises an exception, nothing is created.

    Raises:
        OSError: The disk is full, for example.
    """
    if _is_folder(dest):
        _create_folder(dest, write)
    else:
        write_atomic(dest, lambda file: _write_zip(file, dest.parent, write))


def _is_folder(dest: Path) -> bool:
    return dest.suffix.lower() != ".zip"


def _write_zip(file: BinaryIO, temp_folder: Path, write: Callable[[Save], None]) -> None:
    with temporary_file(temp_folder) as directory:
        archive = StoredZip(file, directory)
        write(archive.add)
        archive.close()


def _create_folder(dest: Path, write: Callable[[Save], None]) -> None:
    temp = dest.with_name(f".{dest.name}.{secrets.token_hex(4)}.tmp")

    def save(name: str, content: BinaryIO) -> None:
        path = temp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            copy_content(content, file)

    try:
        write(save)
        with contextlib.suppress(FileNotFoundError):
            dest.rmdir()
        temp.rename(dest)
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise
