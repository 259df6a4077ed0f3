"""File names by the million without a Python object for each, and which of them belong to the system, not the user."""

from __future__ import annotations

import bisect
import os.path
import posixpath
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

MAX_SHOWN_CHARS = 100
MAX_SHOWN_NAMES = 5

_SEPARATOR = b"\0"
"""After each name; no name in a file system or in a zip that is opened contains it."""

_NAMES_PER_CHUNK = 1 << 12

_HIDDEN_FOLDERS = (
    *("__macosx", "lost+found", "$recycle.bin", "system volume information"),
    *("@eadir", "#recycle", "@recycle"),  # of storage servers by Synology and QNAP
)
_HIDDEN = re.compile(rf"(^|/)(\.[^/\U0010ffff]|({'|'.join(map(re.escape, _HIDDEN_FOLDERS))})/)", re.IGNORECASE)
"""The part of a path up to which everything that starts alike is hidden; ``./a.png``, as some zips have it, is not."""


def comparable(name: str) -> str:
    """Return a name in the form in which names are compared: macOS takes accents apart, others do not."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def listed_path(path: str) -> str:
    """Return the path of an image that a user wrote down, on Windows with backslashes, or as ``./a.png``."""
    path = path.replace("\\", "/")
    return posixpath.normpath(path) if "./" in path or "//" in path else path


def split_folder(name: str) -> tuple[str, str]:
    """Split a path into its folder, with a slash at the end unless it is the top folder, and the name in it."""
    folder, slash, rest = name.rpartition("/")
    return folder + slash, rest


class Names(Sequence[str]):
    """Sorted file names in one block of bytes, which forked processes share and which pickles fast.

    Slices and selections share the block. A lookup takes the time of a binary search.
    """

    def __init__(self, block: bytes, starts: np.ndarray, ends: np.ndarray) -> None:
        self._block = block
        self._starts = starts
        self._ends = ends

    @classmethod
    def of(cls, encoded: Sequence[bytes]) -> Names:
        """Pack names that are sorted and went through `encode_name`."""
        sizes = np.fromiter(map(len, encoded), np.int64, len(encoded))
        ends = np.cumsum(sizes + len(_SEPARATOR)) - len(_SEPARATOR)
        index_type = np.uint32 if ends.size == 0 or ends[-1] < 1 << 32 else np.int64
        block = _SEPARATOR.join([*encoded, b""])
        return cls(block, (ends - sizes).astype(index_type), ends.astype(index_type))

    def __len__(self) -> int:
        return self._starts.size

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Names: ...
    def __getitem__(self, index: int | slice) -> str | Names:
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        return decode_name(self._block[self._starts[index] : self._ends[index]])

    def __iter__(self) -> Iterator[str]:
        return map(decode_name, self.encoded())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None

    def find(self, name: str) -> int | None:
        """Return the position of a name; None if it is missing."""
        index = bisect.bisect_left(self, name)
        return index if index < len(self) and self[index] == name else None

    def common_folder(self) -> str:
        """Return the deepest folder that all of them lie in, with a slash at the end; empty if there is none."""
        if not len(self):
            return ""
        first_and_last = [self[0], self[-1]]  # they are sorted
        return split_folder(os.path.commonprefix(first_and_last))[0]  # noqa: RUF071 - cut at a slash

    def select(self, indices: Sequence[int] | np.ndarray) -> Names:
        """Return the names at some positions, which must ascend."""
        indices = np.asarray(indices, dtype=np.int64)
        return Names(self._block, self._starts[indices], self._ends[indices])

    def encoded(self) -> Iterator[bytes]:
        """Yield the names as UTF-8."""
        for first in range(0, len(self), _NAMES_PER_CHUNK):
            chunk = slice(first, first + _NAMES_PER_CHUNK)
            for start, end in zip(self._starts[chunk].tolist(), self._ends[chunk].tolist(), strict=True):
                yield self._block[start:end]

    def containing(self, *texts: bytes) -> np.ndarray:
        """Return whether each name contains any of ``texts`` (lower-case ASCII), in lower or upper case: bool [N]."""
        block = self._block.lower()
        is_found = np.zeros(len(self), bool)
        for text in texts:
            index = self._next_containing(block, text, 0)
            while index < len(self):
                is_found[index] = True
                index = self._next_containing(block, text, index + 1)
        return is_found

    def starting_with(self, *first_bytes: bytes) -> np.ndarray:
        """Return whether each name starts with any of ``first_bytes``, of which a null byte matches none: bool [N]."""
        first = np.frombuffer(self._block, np.uint8)[self._starts]
        return np.isin(first, np.frombuffer(b"".join(first_bytes), np.uint8))

    def ending_with(self, *texts: bytes) -> np.ndarray:
        """Return whether each name ends with any of ``texts`` (lower-case ASCII), in lower or upper case: bool [N]."""
        block = np.frombuffer(self._block.lower(), np.uint8)
        ends = self._ends.astype(np.int64)
        is_found = np.zeros(len(self), bool)
        for text in texts:
            indices = np.flatnonzero(~is_found)
            for distance, byte in enumerate(reversed(text), 1):  # the separator in front of a short name differs
                indices = indices[block[ends[indices] - distance] == byte]
            is_found[indices] = True
        return is_found

    def are_ambiguous(self) -> bool:
        """Return whether a name contains the null byte that separates names."""
        return self._block.count(_SEPARATOR) != len(self)

    def hidden(self) -> np.ndarray:
        """Return whether `is_hidden` holds for each name: bool [N]."""
        block = self._block.lower()
        second = np.frombuffer(self._block, np.uint8)[self._starts + 1]  # the separator, after a name of one character
        is_found = self.starting_with(b".") & ~np.isin(second, [ord("/"), ord(_SEPARATOR)])
        for mark in (b"/.", *(folder.encode() for folder in _HIDDEN_FOLDERS)):
            index = self._next_containing(block, mark, 0)
            while index < len(self):
                match = _HIDDEN.search(self[index])
                end = self._end_of_prefix(match.string[: match.end()], index) if match else index + 1
                is_found[index:end] |= match is not None
                index = self._next_containing(block, mark, end)
        return is_found

    def _end_of_prefix(self, prefix: str, first: int) -> int:
        """Return the position after the last of the names that start with ``prefix``, which ``first`` does."""
        return bisect.bisect_left(self, prefix[:-1] + chr(ord(prefix[-1]) + 1), first)

    def _next_containing(self, block: bytes, text: bytes, first: int) -> int:
        """Return the position of the first name from ``first`` on that contains ``text``, or the number of names.

        Args:
            block: The names in lower case.
        """
        while first < len(self):
            at = block.find(text, self._starts[first])
            if at < 0:
                break
            first = int(np.searchsorted(self._ends, self._ends.dtype.type(at), side="right"))
            if first < len(self) and self._starts[first] <= at:  # else it is in a name that was not selected
                return first
        return len(self)


def encode_name(name: str) -> bytes:
    """Encode a name as UTF-8, in which names sort as the strings do; file names may be invalid Unicode."""
    return name.encode("utf-8", "surrogatepass")


def decode_name(encoded: bytes) -> str:
    """Undo `encode_name`."""
    return encoded.decode("utf-8", "surrogatepass")


def is_hidden(name: str) -> bool:
    """Return whether a file belongs to an operating system or an editor, as ``.DS_Store`` and ``__MACOSX/a.jpg`` do."""
    return _HIDDEN.search(name) is not None


def shown(name: str) -> str:
    """Return a name as it may be printed: control and non-ASCII characters escaped, cut to `MAX_SHOWN_CHARS`."""
    text = name if name.isascii() and name.isprintable() else ascii(name)
    return text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 3] + "..."


def first_few(texts: Sequence[str], num: int) -> str:
    """Return the first ``num`` strings, and how many more there are, for a message."""
    return ", ".join(texts[:num]) + (f" and {len(texts) - num} more" if len(texts) > num else "")


def some(names: Sequence[str]) -> str:
    """Return the first few of many names, for a message."""
    return ", ".join(map(shown, names[:MAX_SHOWN_NAMES])) + (", ..." if len(names) > MAX_SHOWN_NAMES else "")
