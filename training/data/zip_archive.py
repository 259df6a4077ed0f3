"""The entries of a zip, read in place."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from training.data.archive_base import MAX_FILE_BYTES, MAX_JSON_BYTES, Archive, is_record, require_at_most
from training.data.names import encode_name
from training.data.zip_contents import LOCAL_HEADER, LOCAL_HEADER_MAGIC, STORED, encoded_name, read_contents

MAX_UNPACKED_BYTES = 64 << 20
"""Largest compressed file in a zip, when unpacked. There is no limit on the ratio: line drawings reach 700:1."""

MAX_EXTRA_JSON_BYTES = 16 << 20
"""How much larger than the whole zip each record in it (`is_record`) may be when unpacked."""


class ZipArchive(Archive):
    """The entries of a zip. The table of contents is shared by all processes; each has a file handle of its own."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO | None = None
        self._file_pid = 0
        names, self._entries = read_contents(path)
        super().__init__(path, names, ignored={})

    def open(self, name: str) -> IO[bytes]:
        """Open an entry for reading."""
        entry = self._find(name)
        if entry["method"] != STORED:
            return io.BytesIO(self.read(name))
        begin = self._data_begin(name, entry)
        return io.BufferedReader(_FilePart(self._handle(), begin, int(entry["size"])))

    def read(self, name: str) -> bytes:
        """Read a whole entry; its size and checksum must be those that the table of contents states."""
        entry = self._find(name)
        num_bytes, num_packed_bytes = int(entry["size"]), int(entry["packed"])
        require_at_most(self._limit_bytes(name, entry), max(num_bytes, num_packed_bytes))
        self._handle().seek(self._data_begin(name, entry))
        data = self._handle().read(num_packed_bytes)
        if entry["method"] != STORED:
            data = _inflate(data, num_bytes)
        if len(data) != num_bytes or zlib.crc32(data) != entry["crc"]:
            raise OSError("its size or CRC-32 is not what the zip states")
        return data

    def close(self) -> None:
        """Close the zip; the next read opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def sizes_and_newest_ns(self, indices: np.ndarray) -> tuple[np.ndarray, int]:
        """Get the sizes from the table of contents; the time is that of the zip."""
        return self._entries["size"][indices].astype(np.int64), self.path.stat().st_mtime_ns

    def _sizes_and_checksums(self, indices: np.ndarray) -> Iterator[tuple[str, int, int]]:
        names, entries = self.names.select(indices), self._entries[indices]
        return zip(names, entries["size"].tolist(), entries["crc"].tolist(), strict=True)

    def _find(self, name: str) -> np.void:
        index = self.names.find(name)
        if index is None:
            raise FileNotFoundError(f"{self.path} has no entry {name!a}")
        return self._entries[index]

    def _limit_bytes(self, name: str, entry: np.void) -> int:
        if is_record(name):
            return min(MAX_JSON_BYTES, self.path.stat().st_size + MAX_EXTRA_JSON_BYTES)
        return MAX_FILE_BYTES if entry["method"] == STORED else MAX_UNPACKED_BYTES

    def _data_begin(self, name: str, entry: np.void) -> int:
        """Return the position after the local header, which must be that of the same file."""
        file = self._handle()
        file.seek(int(entry["offset"]))
        header = file.read(LOCAL_HEADER.size)
        if len(header) < LOCAL_HEADER.size or not header.startswith(LOCAL_HEADER_MAGIC):
            raise OSError("is not where the zip states")
        _, flags, method, num_name_bytes, num_extra_bytes = LOCAL_HEADER.unpack(header)
        try:
            local_name = encoded_name(file.read(num_name_bytes), flags)
        except UnicodeDecodeError:
            local_name = b""
        if method != entry["method"] or local_name != encode_name(name):
            raise OSError("is another file than the zip states")
        return int(entry["offset"]) + LOCAL_HEADER.size + num_name_bytes + num_extra_bytes

    def _handle(self) -> BinaryIO:
        """Return the zip, opened by this process: a handle inherited by fork would share its position."""
        if self._file is None or self._file_pid != os.getpid():
            self.close()
            self._file = open(self.path, "rb")  # noqa: SIM115 - close() does
            self._file_pid = os.getpid()
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def __del__(self) -> None:
        self.close()


class _FilePart(io.RawIOBase):
    """Part of an open file, read as if it were a file."""

    def __init__(self, file: BinaryIO, begin: int, num_bytes: int) -> None:
        self._file = file
        self._begin = begin
        self._num_bytes = num_bytes
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._num_bytes}[whence]
        self._position = max(origin + offset, 0)
        return self._position

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._begin + self._position)
        data = self._file.read(max(min(len(buffer), self._num_bytes - self._position), 0))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def _inflate(data: bytes, num_bytes: int) -> bytes:
    """Unpack to one byte more than expected at most."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, num_bytes + 1)
    except zlib.error as err:
        raise OSError(f"cannot be unpacked: {err}") from err
