"""Writing a file so that, whatever happens, the old one or the whole new one is there."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_atomic(path: str | os.PathLike[str], write: Callable[[BinaryIO], None] | bytes) -> None:
    """Replace ``path`` by new content in one step that survives a crash or a loss of power.

    The content goes to a temporary file in the same folder, ``.<name>.<random>.tmp``, which reaches the disk before
    it takes the name over. If anything fails the old file is untouched and the temporary one is gone; only a killed
    process can leave it behind.

    Args:
        path: The file. Its folder must exist.
        write: The content, or a function that writes it to the seekable file it is given.

    Raises:
        OSError: The folder is missing or the disk is full, for example. Errors of ``write`` pass through.
    """
    path = Path(path)
    temp = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temp, "xb") as file:
            if callable(write):
                write(file)
            else:
                file.write(write)
        commit(temp, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temp.unlink()
        raise


def commit(temp: Path, path: Path) -> None:
    """Give the complete file ``temp`` the name ``path``, in the same folder, once its content is on the disk."""
    with open(temp, "r+b") as file:
        os.fsync(file.fileno())
    temp.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the renaming itself durable, where the system lets a folder be opened (not on Windows)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
