"""An uncompressed zip that is written front to back in constant memory, however many entries it has."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

from training.data.spool import copy_content, read_chunks

LIMIT_16_BITS, LIMIT_32_BITS = 0xFFFF, 0x7FFFFFFF
"""Largest numbers that ``zipfile`` writes into short fields; larger ones go into the long fields of Zip64."""

IN_LONG_FIELD = 0xFFFFFFFF
"""Value of a short field whose number is in the long field."""

VERSION, VERSION_ZIP64 = 20, 45
"""Versions of the format that a reader has to know."""

UNIX = 3
"""Operating system on which the entries were made; the same on every machine."""

DATE = 1 << 5 | 1
"""Date of every entry: 1980-01-01 in MS-DOS format."""

PERMISSIONS = 0o644 << 16


class StoredZip:
    """Writes the bytes that ``zipfile`` would write, which keeps about 600 bytes per entry in memory until the end.

    The format is described in PKWARE's APPNOTE.TXT, section 4.3.

    Args:
        file: The zip, an empty file.
        directory: An empty temporary file for the central directory, which follows the last entry.
    """

    def __init__(self, file: BinaryIO, directory: BinaryIO) -> None:
        self._file = file
        self._directory = directory
        self._num_entries = 0

    def add(self, name: str, content: BinaryIO) -> None:
        """Append an entry.

        Args:
            name: Its path; ASCII.
            content: A file that can seek, of which everything is copied.

        Raises:
            OSError: The disk is full, for example.
        """
        crc, size_bytes = 0, 0
        for chunk in read_chunks(content):
            crc, size_bytes = zlib.crc32(chunk, crc), size_bytes + len(chunk)
        encoded_name = name.encode("ascii")
        offset = self._file.tell()
        sizes = [size_bytes, size_bytes] if size_bytes > LIMIT_32_BITS else []
        self._file.write(b"PK\3\4" + _header(encoded_name, crc, size_bytes, sizes) + encoded_name + _long_fields(sizes))
        copy_content(content, self._file)
        self._directory.write(_directory_entry(encoded_name, crc, size_bytes, sizes, offset))
        self._num_entries += 1

    def close(self) -> None:
        """Append the central directory."""
        start, count = self._file.tell(), self._num_entries
        copy_content(self._directory, self._file)
        end = self._file.tell()
        size_bytes = end - start
        if count > LIMIT_16_BITS or max(start, size_bytes) > LIMIT_32_BITS:
            long_fields = struct.pack("<Q2H2I4Q", 44, *2 * [VERSION_ZIP64], 0, 0, count, count, size_bytes, start)
            self._file.write(b"PK\6\6" + long_fields + b"PK\6\7" + struct.pack("<IQI", 0, end, 1))
            count, size_bytes, start = min(count, 0xFFFF), min(size_bytes, IN_LONG_FIELD), min(start, IN_LONG_FIELD)
        self._file.write(b"PK\5\6" + struct.pack("<4H2IH", 0, 0, count, count, size_bytes, start, 0))


def _directory_entry(encoded_name: bytes, crc: int, size_bytes: int, sizes: list[int], offset: int) -> bytes:
    numbers = [*sizes, offset] if offset > LIMIT_32_BITS else sizes
    made_by = struct.pack("<2B", _version(numbers), UNIX)
    place = struct.pack("<3H2I", 0, 0, 0, PERMISSIONS, IN_LONG_FIELD if offset > LIMIT_32_BITS else offset)
    header = _header(encoded_name, crc, size_bytes, numbers)
    return b"PK\1\2" + made_by + header + place + encoded_name + _long_fields(numbers)


def _header(encoded_name: bytes, crc: int, size_bytes: int, numbers: list[int]) -> bytes:
    """Encode the fields that an entry and its record in the central directory have in common."""
    short_size = IN_LONG_FIELD if size_bytes > LIMIT_32_BITS else size_bytes
    lengths = len(encoded_name), len(_long_fields(numbers))
    return struct.pack("<5H3I2H", _version(numbers), 0, 0, 0, DATE, crc, short_size, short_size, *lengths)


def _version(numbers: list[int]) -> int:
    return VERSION_ZIP64 if numbers else VERSION


def _long_fields(numbers: list[int]) -> bytes:
    return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers) if numbers else b""
