"""The table of contents of a zip as arrays: several times faster than `zipfile`, and no Python object per file is kept.

The format is described in PKWARE's APPNOTE.TXT 6.3.10: sections 4.3.12 (records of the table), 4.3.14 to 4.3.16 (where
the table is) and 4.5.3 (zip64 fields).
"""

from __future__ import annotations

import operator
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from dnnlib.errors import UserError
from dnnlib.file_content import placeholder
from training.data.names import Names, encode_name

STORED, DEFLATED = 0, 8

ENTRY = np.dtype([("offset", "<u8"), ("packed", "<u8"), ("size", "<u8"), ("crc", "<u4"), ("method", "<u2")])
"""A file: position of its local header, bytes in the zip, unpacked bytes and their CRC-32, STORED or DEFLATED."""

LOCAL_HEADER = struct.Struct("<4s2x2H16x2H")
"""Before each file: magic number, flags, method, bytes of the name and of the extra field, which follow."""

LOCAL_HEADER_MAGIC = b"PK\x03\x04"

_MAX_TABLE_BYTES = 1 << 30
_MAX_COMMENT_BYTES = (1 << 16) - 1
_MAX_VERSION = 63
_NAMES_PER_CHUNK = 1 << 12

_END = struct.Struct("<4s4H2LH")
_END_MAGIC = b"PK\x05\x06"
_END64 = struct.Struct("<4sQ2H2L4Q")
_END64_MAGIC = b"PK\x06\x06"
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64_LOCATOR_MAGIC = b"PK\x06\x07"

_RECORD = np.dtype(
    [
        *(("magic", "<u4"), ("made_by", "<u2"), ("version", "u1"), ("system", "u1"), ("flags", "<u2")),
        *(("method", "<u2"), ("time", "<u4"), ("crc", "<u4"), ("packed", "<u4"), ("size", "<u4")),
        *(("name_bytes", "<u2"), ("extra_bytes", "<u2"), ("comment_bytes", "<u2"), ("disk", "<u2")),
        *(("internal", "<u2"), ("external", "<u4"), ("offset", "<u4")),
    ]
)
_RECORD_MAGIC = b"PK\x01\x02"
_VARIABLE_SIZES = struct.Struct("<3H")
_VARIABLE_SIZES_AT = 28
_ZIP64_ID = 1
_ZIP64_ORDER = ("size", "packed", "offset")
_IN_ZIP64_FIELD = (1 << 32) - 1

_FILE_TYPE = 0o170000
_UTF8_FLAG = 0x800
_WITHOUT_IT = "; pack the images again, without it"
_PLAIN = "; pack the images again, uncompressed or as an ordinary zip"
_RELATIVE = "; unpack the images and give their folder, or pack that again"
_WITHOUT_PASSWORD = "; pack the images again, without a password"
_REFUSED_FLAGS = {
    0x0001: f"is encrypted{_WITHOUT_PASSWORD}",
    0x0020: f"is a patch of a file{_WITHOUT_IT}",
    0x2040: f"is strongly encrypted{_WITHOUT_PASSWORD}",
}

_OTHER_ARCHIVES = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "RAR", b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz"}
"""First bytes of archives that are renamed rather than packed anew."""


class Contents(NamedTuple):
    """The files in a zip, folders left out."""

    names: Names
    entries: np.ndarray
    """An `ENTRY` for each name."""


class _BadZipError(ValueError):
    """A damaged zip; the text says where."""


class _RefusedEntryError(ValueError):
    """An entry of a zip that is not read; the text starts with its name, and ends with what to do."""


def read_contents(path: Path) -> Contents:
    """Read the table of contents and check all of it; the files themselves stay unread.

    Raises:
        UserError: Not a zip, a damaged one, or one with an entry that is encrypted, a link, packed by a method other
            than store or deflate, listed twice, or whose path leads outside.
    """
    try:
        with open(path, "rb") as file:
            table, begin, shift = _read_table(file)
        return _parse(table, begin, shift)
    except OSError as err:
        raise UserError(f"{path} cannot be read as a zip: {err.strerror or err}") from err
    except _BadZipError as err:
        raise UserError(f"{path} cannot be read as a zip: {err}") from err
    except _RefusedEntryError as err:
        raise UserError(f"{path}: entry {err}") from err


def encoded_name(raw: bytes, flags: int) -> bytes:
    """Return the name in a header, as `Names` keeps it: in UTF-8, which macOS does not state, or in code page 437.

    Raises:
        UnicodeDecodeError: It is said to be UTF-8 and is not.
    """
    if raw.isascii():
        return raw
    try:
        return encode_name(raw.decode())
    except UnicodeDecodeError:
        if flags & _UTF8_FLAG:
            raise
        return encode_name(raw.decode("cp437"))


def _read_table(file: BinaryIO) -> tuple[bytes, int, int]:
    """Read the records of all entries.

    Returns:
        The records, their position in the file, and what to add to positions stated in them if data precedes the zip.
    """
    file_bytes = file.seek(0, os.SEEK_END)
    tail_at = max(0, file_bytes - _MAX_COMMENT_BYTES - _END.size - _END64_LOCATOR.size - _END64.size)
    file.seek(tail_at)
    tail = file.read()
    end_at = tail.rfind(_END_MAGIC)
    if not 0 <= end_at <= len(tail) - _END.size:
        file.seek(0)
        raise _BadZipError(_other_content(file.read(512)))
    _, disk, _, _, _, table_bytes, stated_begin, _ = _END.unpack_from(tail, end_at)
    locator_at = end_at - _END64_LOCATOR.size
    if locator_at >= 0 and tail.startswith(_END64_LOCATOR_MAGIC, locator_at):
        end_at = locator_at - _END64.size
        if end_at < 0 or not tail.startswith(_END64_MAGIC, end_at):
            raise _BadZipError("its end is damaged")
        *_, disk, _, _, _, table_bytes, stated_begin = _END64.unpack_from(tail, end_at)
    begin = tail_at + end_at - table_bytes
    if disk or begin < stated_begin or table_bytes > _MAX_TABLE_BYTES:
        raise _BadZipError("it is part of a larger one, or its end is damaged")
    file.seek(begin)
    return file.read(table_bytes), begin, begin - stated_begin


def _other_content(head: bytes) -> str:
    """Say what a file that does not end as a zip is, according to its first bytes."""
    if fault := placeholder(head):
        return f"it is {fault}"
    other = next((kind for magic, kind in _OTHER_ARCHIVES.items() if head.startswith(magic)), None)
    if other is not None:
        return f"it is a {other} archive; unpack it, and give the folder"
    return "its end is missing; is the download or copy complete?"


def _parse(table: bytes, begin: int, shift: int) -> Contents:
    data = np.frombuffer(table, np.uint8)
    starts = _record_starts(data)
    records = _gather(data, starts, _RECORD)[:, 0]
    encoded = _encoded_names(table, starts, records)
    if not all(map(operator.lt, encoded, encoded[1:])):
        order = sorted(range(len(encoded)), key=encoded.__getitem__)
        encoded = [encoded[index] for index in order]
        starts, records = starts[order], records[order]
    entries = _entries(data, starts, records, shift)
    names = Names.of(encoded)
    for index, problem in _problems(names, encoded, records, entries, begin):
        raise _RefusedEntryError(f"{names[index]!a:.100} {problem}")
    files = np.flatnonzero(~names.ending_with(b"/"))
    return Contents(names.select(files), entries[files])


def _gather(data: np.ndarray, at: np.ndarray, dtype: np.dtype | str, count: int = 1) -> np.ndarray:
    """Read ``count`` values at each of the positions ``at``: [N, count]."""
    num_bytes = count * np.dtype(dtype).itemsize
    if not at.size:
        return np.empty((0, count), dtype)
    return np.lib.stride_tricks.sliding_window_view(data, num_bytes)[at].view(dtype)


def _record_starts(data: np.ndarray) -> np.ndarray:
    """Return the position of each record; the records must fill the table."""
    starts = np.flatnonzero(data[: max(data.size - _RECORD.itemsize + 1, 0)] == _RECORD_MAGIC[0])
    for offset, byte in enumerate(_RECORD_MAGIC):
        starts = starts[data[starts + offset] == byte]
    ends = starts + _RECORD.itemsize + _gather(data, starts + _VARIABLE_SIZES_AT, "<u2", 3).sum(1, dtype=np.int64)
    if np.array_equal(np.append(starts, data.size), np.insert(ends, 0, 0)):
        return starts
    return np.array(_walk(data.tobytes()), np.int64)  # a name or a comment contains the magic number


def _walk(table: bytes) -> list[int]:
    """Return the position of each record, found from the one before it."""
    starts, at = [], 0
    while at + _RECORD.itemsize <= len(table) and table.startswith(_RECORD_MAGIC, at):
        starts.append(at)
        at += _RECORD.itemsize + sum(_VARIABLE_SIZES.unpack_from(table, at + _VARIABLE_SIZES_AT))
    if at != len(table):
        raise _BadZipError("its table of contents is damaged")
    return starts


def _encoded_names(table: bytes, starts: np.ndarray, records: np.ndarray) -> list[bytes]:
    begins = starts + _RECORD.itemsize
    ends = begins + records["name_bytes"]
    raw: list[bytes] = []
    for first in range(0, begins.size, _NAMES_PER_CHUNK):  # as one list, the positions would take more than the names
        chunk = slice(first, first + _NAMES_PER_CHUNK)
        positions = zip(begins[chunk].tolist(), ends[chunk].tolist(), strict=True)
        raw += [table[begin:end] for begin, end in positions]
    if b"".join(raw).isascii():
        return raw
    try:
        return [encoded_name(name, flags) for name, flags in zip(raw, records["flags"].tolist(), strict=True)]
    except UnicodeDecodeError as err:
        fault = f"has a name that is not in UTF-8, as it claims to be{_WITHOUT_IT}"
        raise _RefusedEntryError(f"{err.object!a:.100} {fault}") from err


def _entries(data: np.ndarray, starts: np.ndarray, records: np.ndarray, shift: int) -> np.ndarray:
    entries = np.empty(len(records), ENTRY)
    for field in ENTRY.fields or ():
        entries[field] = records[field]
    extra_begins = starts + _RECORD.itemsize + records["name_bytes"]
    extra_ends = extra_begins + records["extra_bytes"]
    rows = np.flatnonzero(np.any([records[field] == _IN_ZIP64_FIELD for field in _ZIP64_ORDER], axis=0))
    at, ends = _zip64_fields(data, extra_begins[rows], extra_ends[rows])
    for field in _ZIP64_ORDER:
        is_there = records[field][rows] == _IN_ZIP64_FIELD
        if np.any(at[is_there] + 8 > ends[is_there]):
            raise _BadZipError("a zip64 field in its table of contents is damaged")
        entries[field][rows[is_there]] = _gather(data, at[is_there], "<u8")[:, 0]
        at += 8 * is_there
    entries["offset"] += np.uint64(shift)
    return entries


def _zip64_fields(data: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the zip64 field of each entry begins and ends, which is one of those from ``begins`` to ``ends``."""
    field_begins, field_ends = begins.copy(), ends.copy()
    pending = np.arange(begins.size)
    while pending.size:
        if np.any(field_begins[pending] + 4 > ends[pending]):
            raise _BadZipError("a zip64 field in its table of contents is missing")
        ids, num_bytes = _gather(data, field_begins[pending], "<u2", 2).T.astype(np.int64)
        field_begins[pending] += 4
        field_ends[pending] = field_begins[pending] + num_bytes
        pending = pending[ids != _ZIP64_ID]
        field_begins[pending] = field_ends[pending]
    return field_begins, np.minimum(field_ends, ends)


def _problems(
    names: Names, encoded: list[bytes], records: np.ndarray, entries: np.ndarray, begin: int
) -> Iterator[tuple[int, str]]:
    """Yield the position of each entry that is refused, with its fault and what to do, as a sentence about its name."""
    is_suspect = names.containing(b"\\", b"..", b":") | names.starting_with(b"/", b"\0")
    is_suspect |= names.are_ambiguous()  # names with null characters, which cannot be told apart from two names
    for index in np.flatnonzero(is_suspect):
        if problem := _path_problem(encoded[index]):
            yield int(index), problem
    masks = {
        "appears twice; pack the images again, each under a name of its own": [*map(operator.eq, encoded, encoded[1:])],
        **{problem: records["flags"] & flags != 0 for flags, problem in _REFUSED_FLAGS.items()},
        f"needs a newer version of zip{_PLAIN}": records["version"] > _MAX_VERSION,
        f"is a symbolic link{_WITHOUT_IT}": records["external"] >> 16 & _FILE_TYPE == stat.S_IFLNK,
        f"is packed by a method other than store or deflate{_PLAIN}": ~np.isin(entries["method"], (STORED, DEFLATED)),
        f"states two sizes{_WITHOUT_IT}": (entries["method"] == STORED) & (entries["size"] != entries["packed"]),
        f"is said to lie outside the zip{_WITHOUT_IT}": _ends_after(entries, begin),
    }
    for problem, mask in masks.items():
        yield from ((int(index), problem) for index in np.flatnonzero(mask))


def _path_problem(name: bytes) -> str | None:
    if not name:
        return f"has no name{_WITHOUT_IT}"
    if name.startswith(b"/") or name[1:2] == b":":
        return f"has an absolute path{_RELATIVE}"
    if b"\\" in name or b"\0" in name or b".." in name.split(b"/"):
        return f"has a path with '..', a backslash or a null character{_RELATIVE}"
    return None


def _ends_after(entries: np.ndarray, begin: int) -> np.ndarray:
    """Return whether each entry reaches into the table of contents, without overflow."""
    offset, packed = entries["offset"], entries["packed"]
    return (offset > begin) | (packed > begin) | (offset + packed + np.uint64(LOCAL_HEADER.size) > begin)
