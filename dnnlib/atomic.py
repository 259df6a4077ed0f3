"""Writing that survives a crash: either the old file or the complete new one is there, and lines stay whole."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

CANNOT_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
"""Errors of file systems that cannot sync a folder, such as some of virtual machines and networks."""


def write_atomic(path: str | os.PathLike[str], write: Callable[[BinaryIO], None] | bytes) -> None:
    """Replace the content of ``path`` in one step that survives a crash or a loss of power.

    The content is written and synced to a temporary file in the same folder, ``.<name>.<random>.tmp``, which is then
    renamed. If anything fails, the old file is untouched and the temporary one is removed; only a killed process can
    leave it behind.

    Args:
        path: The file. Its folder must exist.
        write: The content, or a function that writes it to the given binary file, which is seekable.

    Raises:
        OSError: For example, the folder is missing or the disk is full. Errors of ``write`` pass through.
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
    except BaseException as error:
        with contextlib.suppress(OSError):
            temp.unlink()
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, temp, str(temp)):
            error.filename = str(path)  # a full disk does not say where, a missing folder names the temporary file
        raise


def append_line(path: str | os.PathLike[str], line: str) -> None:
    """Append a line to a text file, also if its last one was cut off when the process that wrote it was killed.

    Raises:
        OSError: The file cannot be written.
    """
    with open(path, "ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = f"\n{line}"
        file.write(f"{line}\n".encode())


def commit(temp: Path, path: Path) -> None:
    """Sync the complete file ``temp`` to disk, then rename it to ``path``, which must be in the same folder.

    It gets the permissions of any new file: some libraries write files that no other user can read.
    """
    umask = os.umask(0o077)  # the only way to learn it
    os.umask(umask)
    with contextlib.suppress(OSError):  # of file systems without permissions
        temp.chmod(0o666 & ~umask)
    with open(temp, "r+b") as file:
        os.fsync(file.fileno())
    temp.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a renaming in ``folder`` durable where folders can be opened, which Windows does not allow, and synced."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)
