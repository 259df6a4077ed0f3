"""Statistics of real images on disk, found again by what the images are rather than by where they lie."""

from __future__ import annotations

import functools
import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dnnlib
from training.data.archive import open_archive
from training.data.labels import LABELS_FILE

_FORMAT = 1
"""Part of every key: a new number forgets the files of older versions."""

_CHUNK_BYTES = 1 << 20


def dataset_fingerprint(path: str | Path) -> str:
    """Hash the names and contents of all files in a folder or zip; the same files give the same hash in either.

    A zip is answered from its table of contents, a folder is read through.
    """
    path = Path(path)
    files = _files_of_zip(path) if zipfile.is_zipfile(path) else _files_of_folder(path)
    return hashlib.sha256(json.dumps(sorted(files)).encode()).hexdigest()


def resize_filter(path: str | Path) -> str | None:
    """Tell how the images of a dataset were resized, if its ``dataset.json`` says so."""
    try:
        return json.loads(open_archive(path).read(LABELS_FILE)).get("resize_filter")
    except (OSError, ValueError, AttributeError):
        return None


def _files_of_folder(path: Path) -> Iterator[tuple[str, int, int]]:
    for file in path.rglob("*"):
        if file.is_file():
            stat = file.stat()
            yield file.relative_to(path).as_posix(), stat.st_size, _crc32(file, stat.st_size, stat.st_mtime_ns)


def _files_of_zip(path: Path) -> Iterator[tuple[str, int, int]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield info.filename, info.file_size, info.CRC


@functools.lru_cache(maxsize=2**20)
def _crc32(path: Path, size_bytes: int, mtime_ns: int) -> int:
    """Hash a file, once per process as long as its size and time of modification stay."""
    crc = 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            crc = zlib.crc32(chunk, crc)
    return crc


def stats_path(**key: Any) -> Path:
    """Name the file for statistics that are determined by ``key`` (plain JSON values)."""
    text = json.dumps({"format": _FORMAT, **key}, sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:32]
    return Path(dnnlib.make_cache_dir_path("metrics", f"{name}.npz"))
