"""What folders and zips of files have in common: names, contents, facts about the images in them."""

from __future__ import annotations

import abc
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from dnnlib.errors import UserError
from training.data.json_stream import JsonStream
from training.data.names import Names, encode_name, shown, split_folder

METADATA_FILE = "dataset.json"
"""Labels and other facts about the images: see `Archive.find_record`."""

OBJECTS_FILE = "objects.json"
"""``{"objects": {path of an image: [object, ...], ...}}``: see `Archive.find_record`."""

MAX_FILE_BYTES = 256 << 20
"""Largest file that is read whole, records (`is_record`) aside."""

MAX_JSON_BYTES = 1 << 30
"""Largest record."""

KEPT_METADATA = ("class_names", "resize_filter")
"""Keys of `METADATA_FILE` whose values are used, `LABELS` aside."""

LABELS = "labels"

_ROWS_PER_CHUNK = 1 << 12


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
        """Yield the name, size in bytes and CRC-32 of each file at some positions in ``names``, in order."""

    @abc.abstractmethod
    def sizes_and_newest_ns(self, indices: np.ndarray) -> tuple[np.ndarray, int]:
        """Return the sizes in bytes of the files at some positions in ``names``, and when the latest was written.

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
        return hash_rows("", self._sizes_and_checksums(np.arange(len(self.names)) if indices is None else indices))

    def find_record(self, file: str) -> str | None:
        """Find a file that describes the images: in the top folder, or in the one folder that everything lies in.

        Whoever packs a folder often packs its contents one level deeper. Paths of images in such a file are relative to
        its folder. If the top folder does not have it, its name may be in lower or upper case.

        Args:
            file: `METADATA_FILE` or `OBJECTS_FILE`.

        Returns:
            Its path; None if it is missing.
        """
        if file in self.names:
            return file
        similar = self.names.select(np.flatnonzero(self.names.ending_with(file.encode())))
        if not similar:  # to tell which of a million files are hidden takes seconds
            return None
        folder = self.names.select(np.flatnonzero(~self.names.hidden())).common_folder()
        if folder + file in similar:
            return folder + file
        return next((name for name in similar if name.startswith(folder) and len(name) == len(folder + file)), None)

    def metadata(self, read_labels: Callable[[JsonStream], Any] = JsonStream.skip) -> dict[str, Any]:
        """Parse `METADATA_FILE`, {} where there is none.

        Args:
            read_labels: Takes the value of "labels", however long, and returns what stands for it in the result.

        Returns:
            The labels and the values of `KEPT_METADATA`, as far as they are there.

        Raises:
            UserError: It cannot be read, or is not a JSON object.
        """
        name = self.find_record(METADATA_FILE)
        if name is None:
            return {}
        where = f"{self.path}: {shown(name)}"
        try:
            return _parse_metadata(JsonStream(self.read(name)), read_labels, where)
        except UserError:
            raise
        except (OSError, ValueError, RecursionError) as err:
            raise UserError(f"{where} cannot be read as JSON: {err}") from err

    def close(self) -> None:
        """Close open files; the next read opens them again."""
        return


def is_record(name: str) -> bool:
    """Return whether a path is that of a file that describes the images, and grows with their number."""
    return split_folder(name)[1].lower() in (METADATA_FILE, OBJECTS_FILE)


def _parse_metadata(stream: JsonStream, read_labels: Callable[[JsonStream], Any], where: str) -> dict[str, Any]:
    if stream.next_char() != "{":
        stream.skip()
        stream.end()
        raise UserError(f'{where} holds no object, allowed: {{"labels": [[path, label], ...]}}')
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


def require_at_most(limit_bytes: int, num_bytes: int) -> None:
    """Refuse a file that is too large.

    Raises:
        OSError: It has more than ``limit_bytes``.
    """
    if num_bytes > limit_bytes:
        raise OSError(f"has {num_bytes / 2**20:.1f} MiB, at most {limit_bytes / 2**20:.1f} are allowed")


def hash_rows(prefix: str, rows: Iterator[tuple[str, int, int]]) -> str:
    """Return the SHA-256 of ``prefix`` and of the JSON of all rows, written in parts."""
    digest = hashlib.sha256(encode_name(prefix))
    separator = "["
    while chunk := list(itertools.islice(rows, _ROWS_PER_CHUNK)):
        digest.update(f"{separator}{json.dumps(chunk)[1:-1]}".encode())
        separator = ", "
    digest.update(b"]" if separator != "[" else b"[]")
    return digest.hexdigest()
