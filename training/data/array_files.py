"""CIFAR-10 and MNIST as they are downloaded, read into arrays without executing anything in the files.

Both are untrusted: sizes are limited before anything is unpacked, and pickles go through `torch_utils.safe_pickle`
(docs/security.md).
"""

from __future__ import annotations

import gzip
import io
import math
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from dnnlib.errors import UserError
from dnnlib.file_content import content_fault
from dnnlib.formatting import plural

MAX_UNPACKED_BYTES = 1 << 30
"""Most bytes unpacked from one file; the largest real one, CIFAR-10, has 186 MB."""
BASE_UNPACKED_BYTES = 64 << 20
MAX_RATIO = 16
"""Largest compression ratio of files that unpack to more than the base; photographs and digits reach 5."""

MNIST_SIDE_PX = 28
MNIST_PADDING_PX = 2
"""Black margin that makes 28 px digits 32 px images."""

CIFAR_SIDE_PX = 32
CIFAR_ROW = 3 * CIFAR_SIDE_PX**2
NUM_CIFAR_CLASSES = 10
NUM_BATCHES = 5
MAX_BATCH_BYTES = 40 << 20
"""Most bytes of one pickle of CIFAR-10; the real ones have 31 MB."""
MAX_TAR_ENTRIES = 1000
_BATCH_NAMES = {f"cifar-10-batches-py/data_batch_{number}": number for number in range(1, NUM_BATCHES + 1)}

_READ_ERRORS = (OSError, EOFError, zlib.error, tarfile.TarError)


def read_cifar10(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the five training batches of ``cifar-10-python.tar.gz``.

    Returns:
        Images uint8 [N, 32, 32, 3] and class numbers int64 [N] in 0..9.

    Raises:
        UserError: The file is damaged, holds something else, or its pickles ask for more than arrays.
    """
    try:
        batches = dict(_read_batches(path))
    except (*_READ_ERRORS, ValueError) as error:
        raise UserError(f"{path} cannot be read as CIFAR-10: {_text(error)}") from error
    missing = sorted(set(_BATCH_NAMES.values()) - batches.keys())
    if missing:
        raise UserError(f"{path} cannot be read as CIFAR-10: it holds no cifar-10-batches-py/data_batch_{missing[0]}")
    images = np.concatenate([batches[number][0] for number in sorted(batches)])
    labels = np.concatenate([batches[number][1] for number in sorted(batches)])
    images = images.reshape(-1, 3, CIFAR_SIDE_PX, CIFAR_SIDE_PX).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels


def read_mnist(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read ``train-images-idx3-ubyte.gz`` and, beside it, ``train-labels-idx1-ubyte.gz``.

    Returns:
        Images uint8 [N, 32, 32] and class numbers int64 [N].

    Raises:
        UserError: A file is missing, damaged, not in IDX format, or its images are not 28 x 28.
    """
    images = _read_idx(path, num_dims=3)
    if images.shape[1:] != (MNIST_SIDE_PX, MNIST_SIDE_PX):
        size = f"{images.shape[2]}x{images.shape[1]}"
        raise UserError(f"{path} holds images of {size} px; those of MNIST are {MNIST_SIDE_PX}x{MNIST_SIDE_PX}")
    labels = _read_idx(path.with_name("train-labels-idx1-ubyte.gz"), num_dims=1)
    if len(images) != len(labels):
        found = f"{plural(len(images), 'image')}, but the file beside it {plural(len(labels), 'label')}"
        raise UserError(f"{path} holds {found}")
    margin = (MNIST_PADDING_PX, MNIST_PADDING_PX)
    return np.pad(images, ((0, 0), margin, margin)), labels.astype(np.int64)


class _Unpacked:
    """What a gzip file holds, from start to end, up to a limit that depends on the size of the file."""

    def __init__(self, file: gzip.GzipFile, path: Path) -> None:
        self._file = cast(BinaryIO, file)
        self.remaining = min(BASE_UNPACKED_BYTES + MAX_RATIO * path.stat().st_size, MAX_UNPACKED_BYTES)

    def read(self, num_bytes: int) -> bytes:
        """Return that many bytes, or fewer at the end of the file."""
        if num_bytes > self.remaining:
            raise UserError(f"it unpacks to more than a file of its size should; {self.remaining} bytes are left")
        self.remaining -= num_bytes
        return self._file.read(num_bytes)

    def skip(self, num_bytes: int) -> None:
        """Pass over that many bytes."""
        while num_bytes > 0:
            num_bytes -= len(self.read(min(num_bytes, 1 << 20))) or num_bytes


def _open_gzip(path: Path) -> gzip.GzipFile:
    if not path.is_file():
        raise FileNotFoundError("there is no such file")
    if fault := content_fault(path):
        raise UserError(f"it is {fault}")
    return gzip.open(path)


def _read_batches(path: Path) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray]]]:
    """Yield number, images [N, 3072] and labels [N] of each batch, and read no further than the last.

    `tarfile` keeps all headers in memory, without limits, so it is used to parse single headers only.
    """
    with _open_gzip(path) as file:
        unpacked = _Unpacked(file, path)
        wanted = dict(_BATCH_NAMES)
        for _ in range(MAX_TAR_ENTRIES):
            if not wanted:
                return
            header = unpacked.read(tarfile.BLOCKSIZE)
            if not header.strip(b"\0"):
                return  # the end of the archive
            member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            num_bytes = max(member.size, 0)
            number = wanted.pop(member.name.removeprefix("./"), None) if member.isreg() else None
            if number is None:
                unpacked.skip(num_bytes)
            elif num_bytes > MAX_BATCH_BYTES:
                raise UserError(f"data_batch_{number} has {num_bytes} bytes, at most {MAX_BATCH_BYTES} are plausible")
            else:
                yield number, _parse_batch(unpacked.read(num_bytes))
            unpacked.skip(-num_bytes % tarfile.BLOCKSIZE)


def _parse_batch(pickled: bytes) -> tuple[np.ndarray, np.ndarray]:
    from torch_utils import safe_pickle  # imports torch, which takes a second and is not needed for other datasets

    batch = safe_pickle.load(io.BytesIO(pickled))
    if not isinstance(batch, dict):
        raise UserError("a batch is not a dict")
    data, labels = batch.get("data"), batch.get("labels")
    if not isinstance(data, safe_pickle.PickledArray):
        raise UserError("a batch holds no array 'data'")
    images = data.values
    if images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != CIFAR_ROW:
        raise UserError(f"'data' of a batch must be uint8 [N, {CIFAR_ROW}], got {images.dtype} {list(images.shape)}")
    if not (isinstance(labels, list) and len(labels) == len(images) and all(map(_is_class, labels))):
        raise UserError(f"'labels' of a batch must be {len(images)} class numbers in 0..{NUM_CIFAR_CLASSES - 1}")
    return images, np.array(labels, dtype=np.int64)


def _is_class(label: Any) -> bool:
    return type(label) is int and 0 <= label < NUM_CIFAR_CLASSES


def _read_idx(path: Path, num_dims: int) -> np.ndarray:
    """Read a gzipped IDX file of bytes: magic 0, 0, 8 (uint8), number of dimensions; sizes big-endian; data."""
    header_bytes = 4 + 4 * num_dims
    try:
        with _open_gzip(path) as file:
            unpacked = _Unpacked(file, path)
            header = unpacked.read(header_bytes)
            shape = [int.from_bytes(header[start : start + 4], "big") for start in range(4, header_bytes, 4)]
            if header[:4] != bytes([0, 0, 8, num_dims]):
                raise UserError(f"it is not an IDX file of bytes with {num_dims} dimensions")
            data = unpacked.read(math.prod(shape) + 1)  # one more, which must not be there
    except (*_READ_ERRORS, ValueError) as error:
        raise UserError(f"{path} cannot be read: {_text(error)}") from error
    if len(data) != math.prod(shape):
        raise UserError(f"{path} is not an IDX file of bytes with {num_dims} dimensions, or it is truncated")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _text(error: Exception) -> str:
    """Return what an error says, in which only our own may quote the file."""
    return str(error) if isinstance(error, UserError) else f"{str(error)[:200]!a}"
