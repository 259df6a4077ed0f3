"""Temporary files for everything that grows with the number of images, so that memory does not."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

CHUNK_BYTES = 1 << 20


def temporary_file(folder: Path) -> BinaryIO:
    """Create a nameless file in ``folder``, which is gone once it is closed, even if the process is killed."""
    return cast(BinaryIO, tempfile.TemporaryFile(dir=folder))


def read_chunks(file: BinaryIO) -> Iterator[bytes]:
    """Yield the whole content of a seekable file in parts."""
    file.seek(0)
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def copy_content(source: BinaryIO, target: BinaryIO) -> None:
    """Append the whole content of a seekable file to another file."""
    source.seek(0)
    shutil.copyfileobj(source, target, CHUNK_BYTES)


class LineSpool:
    """Lines of ASCII text in a temporary file.

    Attributes:
        file: The temporary file.
        num_lines: Number of lines in it.
    """

    def __init__(self, folder: Path) -> None:
        self.file = temporary_file(folder)
        self.num_lines = 0

    def add(self, line: str) -> None:
        """Append a line."""
        self.file.write(line.encode("ascii") + b"\n")
        self.num_lines += 1

    def lines(self) -> Iterator[str]:
        """Yield all lines."""
        self.file.seek(0)
        for line in self.file:
            yield line.decode("ascii").rstrip("\n")

    def close(self) -> None:
        """Delete the lines."""
        self.file.close()
