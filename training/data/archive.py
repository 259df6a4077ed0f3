"""The files of a folder or of a zip, read in place; a zip with entries that could do harm is refused when opened."""

from __future__ import annotations

import abc
import hashlib
import io
import itertools
import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from dnnlib.errors import UserError
from training.data.file_tree import list_files
from training.data.json_stream import JsonStream
from training.data.names import Names, encode_name, shown
from training.data.zip_contents import LOCAL_HEADER, LOCAL_HEADER_MAGIC, STORED, encoded_name, read_contents

METADATA_FILE = "dataset.json"
"""Labels and other facts about the images, in the top folder."""

OBJECTS_FILE = "objects.json"
"""``{"objects": {path of an image: [object, ...], ...}}``, in the top folder."""

LARGE_FILES = (METADATA_FILE, OBJECTS_FILE)
"""They grow with the number of images."""

MAX_FILE_BYTES = 256 << 20
"""Largest file that is read whole, `LARGE_FILES` aside."""

MAX_UNPACKED_BYTES = 64 << 20
"""Largest compressed file in a zip, when unpacked. There is no limit on the ratio: line drawings reach 700:1."""

MAX_JSON_BYTES = 1 << 30
"""Largest of the `LARGE_FILES`."""

MAX_EXTRA_JSON_BYTES = 16 << 20
"""How much larger than the whole zip each of its `LARGE_FILES` may be when unpacked."""

KEPT_METADATA = ("class_names", "resize_filter")
"""Keys of `METADATA_FILE` whose values are used, `LABELS` aside."""

LABELS = "labels"

_ROWS_PER_CHUNK = 1 << 12

OfFile = Callable[[str, os.stat_result], int]
"""Computes a number for a file in a folder, from its path and its ``os.stat``."""


class Archive(abc.ABC):
    """Named files that any number of processes can read: it may be pickled, and inherited by a fork.

    Attributes:
        path: The folder or zip.
        names: Path of every file in it, with forward slashes, sorted.
        ignored: Paths of links and special files that are not among ``names``, by the reason.
    """

    def __init__(self, path: Path, names: Names, ignored: dict[str, list[str]]) -> None:
        self.path = path
        self.names = names
        self.ignored = ignored

    @abc.abstractmethod
    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading; it can seek. Its checksum is not verified.

        Raises:
            OSError: It is missing or damaged.
        """

    @abc.abstractmethod
    def read(self, name: str) -> bytes:
        """Read a whole file.

        Raises:
            OSError: It is missing, damaged or too large.
        """

    @abc.abstractmethod
    def _sizes_and_checksums(self, indices: np.ndarray) -> Iterator[tuple[str, int, int]]:
        """Name, size in bytes and CRC-32 of the files at some positions in ``names``, in order."""

    @abc.abstractmethod
    def sizes_and_newest_ns(self, indices: np.ndarray) -> tuple[np.ndarray, int]:
        """Sizes in bytes of the files at some positions in ``names``, and when the latest of them was written.

        Nothing is read but what the file system or the table of contents says; times are in ns since 1970.

        Raises:
            UserError: A file is missing.
        """

    def fingerprint(self, indices: np.ndarray | None = None) -> str:
        """Hash the names and contents of files; the same files give the same hash in a folder and in a zip.

        A zip is answered from its table of contents; a folder is read through, once per process while it stays as it
        is.

        Args:
            indices: Positions in ``names``, which must ascend; all by default.

        Raises:
            UserError: A file cannot be read.
        """
        return _hash("", self._sizes_and_checksums(np.arange(len(self.names)) if indices is None else indices))

    def metadata(self, read_labels: Callable[[JsonStream], Any] = JsonStream.skip) -> dict[str, Any]:
        """Parse `METADATA_FILE`, {} where there is none.

        Args:
            read_labels: Takes the value of "labels", however long, and returns what stands for it in the result.

        Returns:
            The labels and the values of `KEPT_METADATA`, as far as they are there.

        Raises:
            UserError: It cannot be read, or is not a JSON object.
        """
        if METADATA_FILE not in self.names:
            return {}
        where = f"{self.path}: {METADATA_FILE}"
        try:
            return _parse_metadata(JsonStream(self.read(METADATA_FILE)), read_labels, where)
        except UserError:
            raise
        except (OSError, ValueError, RecursionError) as err:
            raise UserError(f"{where} cannot be read as JSON: {err}") from err

    def close(self) -> None:
        """Close open files; the next read opens them again."""
        return


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
            _require_at_most(MAX_JSON_BYTES if name in LARGE_FILES else MAX_FILE_BYTES, num_bytes)
            return file.read(num_bytes)

    def fingerprint(self, indices: np.ndarray | None = None) -> str:
        """Hash the names and contents of files."""
        if indices is None:
            indices = np.arange(len(self.names))
        key = _hash(str(self.path.absolute()), self._rows(indices, _written_ns))
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
        """Name, size and something else of some files."""
        folder = str(self.path)
        for name in self.names.select(indices):
            file = f"{folder}/{name}"
            try:
                status = os.stat(file)  # noqa: PTH116 - making a million paths takes longer than asking for them
                yield name, status.st_size, of_file(file, status)
            except OSError as err:
                raise UserError(f"{self.path}: {shown(name)} cannot be read: {err.strerror or err}") from err


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
        _require_at_most(self._limit_bytes(name, entry), max(num_bytes, num_packed_bytes))
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
        if name in LARGE_FILES:
            return min(MAX_JSON_BYTES, self.path.stat().st_size + MAX_EXTRA_JSON_BYTES)
        return MAX_FILE_BYTES if entry["method"] == STORED else MAX_UNPACKED_BYTES

    def _data_begin(self, name: str, entry: np.void) -> int:
        """Position behind the local header, which must be that of the same file."""
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
        """The zip, opened by this process: a handle inherited by fork would share its position with the parent."""
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


def open_archive(path: str | os.PathLike[str]) -> Archive:
    """Open a folder or a zip.

    Raises:
        UserError: It does not exist, is neither, cannot be read, or is a zip with a refused entry (see
            `zip_contents.read_contents`).
    """
    path = Path(path)
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError as err:  # another user's, or a name that is too long
        raise UserError(f"{shown(str(path))} cannot be read: {err.strerror or err}") from err
    if is_folder:
        return FolderArchive(path)
    if not exists:
        raise UserError(f"no such folder or zip: {path}")
    if path.suffix.lower() != ".zip" or not path.is_file():
        raise UserError(f"{path} is neither a folder nor a .zip")
    return ZipArchive(path)


def _parse_metadata(stream: JsonStream, read_labels: Callable[[JsonStream], Any], where: str) -> dict[str, Any]:
    if stream.next_char() != "{":
        stream.skip()
        stream.end()
        raise UserError(f'{where} holds no object, allowed is {{"labels": [[path, label], ...]}}')
    content: dict[str, Any] = {}
    for key in stream.object_keys():
        if key == LABELS:
            content[key] = read_labels(stream)
        elif key in KEPT_METADATA:
            content[key] = stream.value()
        else:
            stream.skip()
    stream.end()
    return content


def _require_at_most(limit_bytes: int, num_bytes: int) -> None:
    if num_bytes > limit_bytes:
        raise OSError(f"has {num_bytes / 2**20:.1f} MiB, allowed are {limit_bytes / 2**20:.1f}")


def _inflate(data: bytes, num_bytes: int) -> bytes:
    """Unpack to one byte more than expected at most."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, num_bytes + 1)
    except zlib.error as err:
        raise OSError(f"cannot be unpacked: {err}") from err


def _written_ns(_path: str, status: os.stat_result) -> int:
    return status.st_mtime_ns


def _crc32(path: str) -> int:
    crc = 0
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            crc = zlib.crc32(chunk, crc)
    return crc


def _hash(prefix: str, rows: Iterator[tuple[str, int, int]]) -> str:
    """SHA-256 of ``prefix`` and of the JSON of all rows, written in parts."""
    digest = hashlib.sha256(encode_name(prefix))
    separator = "["
    while chunk := list(itertools.islice(rows, _ROWS_PER_CHUNK)):
        digest.update(f"{separator}{json.dumps(chunk)[1:-1]}".encode())
        separator = ", "
    digest.update(b"]" if separator != "[" else b"[]")
    return digest.hexdigest()
