"""The files below a folder."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dnnlib.errors import UserError
from training.data.archive_base import MAX_FILE_BYTES, MAX_JSON_BYTES, Archive, hash_rows, is_record, require_at_most
from training.data.file_tree import list_files
from training.data.names import Names, encode_name, shown

OfFile = Callable[[str, os.stat_result], int]
"""Computes a number for a file in a folder, from its path and its ``os.stat``."""

_folder_fingerprints: dict[str, str] = {}
"""Fingerprints of the folders that this process has read, by a hash of what `FolderArchive._rows` yields."""


class FolderArchive(Archive):
    """The files below a folder."""

    def __init__(self, path: Path) -> None:
        tree = list_files(path)
        super().__init__(path, Names.of(sorted(map(encode_name, tree.files))), tree.ignored)

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        return open(self.path / name, "rb")

    def read(self, name: str) -> bytes:
        """Read a whole file."""
        with self.open(name) as file:
            num_bytes = os.fstat(file.fileno()).st_size
            require_at_most(MAX_JSON_BYTES if is_record(name) else MAX_FILE_BYTES, num_bytes)
            return file.read(num_bytes)

    def fingerprint(self, indices: np.ndarray | None = None) -> str:
        """Hash the names and contents of files."""
        if indices is None:
            indices = np.arange(len(self.names))
        key = hash_rows(str(self.path.absolute()), self._rows(indices, _written_ns))
        if key not in _folder_fingerprints:
            _folder_fingerprints[key] = super().fingerprint(indices)
        return _folder_fingerprints[key]

    def sizes_and_newest_ns(self, indices: np.ndarray) -> tuple[np.ndarray, int]:
        """Get the sizes and the latest time of some files from the file system."""
        rows = ((size, time) for _name, size, time in self._rows(indices, _written_ns))
        sizes, times = np.fromiter(rows, np.dtype((np.int64, 2)), len(indices)).T
        return sizes, int(times.max(initial=0))

    def _sizes_and_checksums(self, indices: np.ndarray) -> Iterator[tuple[str, int, int]]:
        return self._rows(indices, lambda file, _status: _crc32(file))

    def _rows(self, indices: np.ndarray, of_file: OfFile) -> Iterator[tuple[str, int, int]]:
        """Yield the name, size and something else of each of some files."""
        folder = str(self.path)
        for name in self.names.select(indices):
            file = f"{folder}/{name}"
            try:
                status = os.stat(file)  # noqa: PTH116 - making a million paths takes longer than asking for them
                yield name, status.st_size, of_file(file, status)
            except OSError as err:
                raise UserError(f"{self.path}: {shown(name)} cannot be read: {err.strerror or err}") from err


def _written_ns(_path: str, status: os.stat_result) -> int:
    return status.st_mtime_ns


def _crc32(path: str) -> int:
    crc = 0
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            crc = zlib.crc32(chunk, crc)
    return crc
