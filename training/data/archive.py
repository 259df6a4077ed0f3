"""The files of a folder or of a zip, read in place; a zip with entries that could do harm is refused when opened."""

from __future__ import annotations

import abc
import contextlib
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from dnnlib.util import UserError

MAX_ENTRY_BYTES = 64 << 20
"""Largest unpacked entry of a zip, JSON files aside."""

MAX_JSON_BYTES = 1 << 30

MAX_RATIO = 200
"""Largest unpacked size of an entry over its packed size. Deflate reaches 1032 on zeros; photographs stay below 10."""


class Archive(abc.ABC):
    """Named files that any number of processes can read: it may be pickled, and inherited by a fork.

    Attributes:
        path: The folder or zip.
        names: Path of every file in it, with forward slashes, sorted.
    """

    def __init__(self, path: Path, names: list[str]) -> None:
        self.path = path
        self.names = names

    @abc.abstractmethod
    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading; it can seek.

        Raises:
            OSError: It is missing or damaged.
        """

    def read(self, name: str) -> bytes:
        """Read a whole file.

        Raises:
            OSError: It is missing or damaged.
        """
        with self.open(name) as file:
            return file.read()

    def close(self) -> None:
        """Let go of open files; the next read opens them again."""
        return


class FolderArchive(Archive):
    """The files below a folder."""

    def __init__(self, path: Path) -> None:
        files = [Path(folder, name) for folder, _, names in os.walk(path, onerror=_refuse) for name in names]
        super().__init__(path, sorted(file.relative_to(path).as_posix() for file in files))

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading."""
        return open(self.path / name, "rb")


class ZipArchive(Archive):
    """The entries of a zip, each process reading through a handle of its own."""

    def __init__(self, path: Path) -> None:
        self._handle: zipfile.ZipFile | None = None
        self._handle_pid = 0
        super().__init__(path, [])
        self.names = sorted(entry.filename for entry in self._zip().infolist() if not entry.is_dir())

    def open(self, name: str) -> IO[bytes]:
        """Open an entry for reading."""
        with _damage_is_os_error():
            try:
                return self._zip().open(name)
            except KeyError as err:
                raise FileNotFoundError(f"{self.path} has no entry {name!r}") from err

    def read(self, name: str) -> bytes:
        """Read a whole entry; its checksum must match."""
        with _damage_is_os_error():
            return super().read(name)

    def close(self) -> None:
        """Let go of the zip; the next read opens it again."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def _zip(self) -> zipfile.ZipFile:
        """The handle of this process. A handle inherited by fork would share its file position with the parent."""
        if self._handle is None or self._handle_pid != os.getpid():
            self._handle = _open_checked(self.path)
            self._handle_pid = os.getpid()
        return self._handle

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}


def open_archive(path: str | os.PathLike[str]) -> Archive:
    """Open a folder or a zip.

    Raises:
        UserError: It does not exist, is neither, or is a zip with a refused entry (see `refusal`).
    """
    path = Path(path)
    if path.is_dir():
        return FolderArchive(path)
    if not path.exists():
        raise UserError(f"no such folder or zip: {path}")
    if path.suffix.lower() != ".zip":
        raise UserError(f"{path} is neither a folder nor a .zip")
    return ZipArchive(path)


def refusal(entry: zipfile.ZipInfo) -> str | None:
    """Why an entry of a zip is not read, or None if it is harmless."""
    name = entry.orig_filename
    if name.startswith("/") or name[1:2] == ":":
        return "has an absolute path"
    if ".." in name.split("/") or "\\" in name or "\0" in name:
        return "has a path with '..', a backslash or a null character"
    if entry.flag_bits & 1:
        return "is encrypted"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "is a symbolic link"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed by a method other than store or deflate"
    limit_bytes = MAX_JSON_BYTES if name.endswith(".json") else MAX_ENTRY_BYTES
    if entry.file_size > limit_bytes:
        return f"unpacks to {entry.file_size >> 20} MiB, allowed are {limit_bytes >> 20}"
    if entry.file_size > MAX_RATIO * max(entry.compress_size, 1):
        return f"unpacks to more than {MAX_RATIO} times its packed size"
    return None


def _open_checked(path: Path) -> zipfile.ZipFile:
    try:
        handle = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as err:
        raise UserError(f"{path} cannot be read as a zip: {err}") from err
    seen: set[str] = set()
    for entry in handle.infolist():
        problem = "appears twice" if entry.filename in seen else refusal(entry)
        if problem:
            handle.close()
            raise UserError(f"{path}: entry {entry.orig_filename!r} {problem}; pack the images again, without it")
        seen.add(entry.filename)
    return handle


@contextlib.contextmanager
def _damage_is_os_error() -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError) as err:
        raise OSError(str(err)) from err


def _refuse(err: OSError) -> None:
    raise UserError(f"{err.filename} cannot be listed: {err.strerror}")
