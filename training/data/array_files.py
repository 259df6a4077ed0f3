"""CIFAR-10 and MNIST as they are downloaded, read into arrays without running anything that the files contain."""

from __future__ import annotations

import codecs
import gzip
import io
import math
import pickle
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from dnnlib.util import UserError

MAX_UNPACKED_BYTES = 1 << 30
"""Most bytes unpacked from one file; the largest real one has 47 MB."""

MNIST_PADDING_PX = 2
"""Black margin that makes 28 px digits 32 px images."""


def read_cifar10(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the five training batches of ``cifar-10-python.tar.gz``.

    Returns:
        Images uint8 [N, 32, 32, 3] and class numbers int64 [N].

    Raises:
        UserError: The file is damaged, holds something else, or its pickles ask for more than arrays.
    """
    try:
        with tarfile.open(path, "r:gz") as tar:
            batches = [_load_arrays(_member(tar, f"data_batch_{number}")) for number in range(1, 6)]
        images = np.concatenate([np.asarray(batch["data"], dtype=np.uint8) for batch in batches])
        labels = np.concatenate([np.asarray(batch["labels"], dtype=np.int64) for batch in batches])
        images = images.reshape(len(labels), 3, 32, 32).transpose(0, 2, 3, 1)
    except Exception as err:  # broken bytes make unpicklers raise almost anything
        raise UserError(f"{path} cannot be read as CIFAR-10: {err}") from err
    return np.ascontiguousarray(images), labels


def read_mnist(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read ``train-images-idx3-ubyte.gz`` and, beside it, ``train-labels-idx1-ubyte.gz``.

    Returns:
        Images uint8 [N, 32, 32] and class numbers int64 [N].

    Raises:
        UserError: A file is missing, damaged, or not in IDX format.
    """
    images = _read_idx(path, num_dims=3)
    labels = _read_idx(path.with_name("train-labels-idx1-ubyte.gz"), num_dims=1)
    if len(images) != len(labels):
        raise UserError(f"{path} holds {len(images)} images, but there are {len(labels)} labels beside it")
    margin = (MNIST_PADDING_PX, MNIST_PADDING_PX)
    return np.pad(images, ((0, 0), margin, margin)), labels.astype(np.int64)


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    member = tar.getmember(f"cifar-10-batches-py/{name}")
    file = tar.extractfile(member)
    if file is None or member.size > MAX_UNPACKED_BYTES:
        raise ValueError(f"{name} is not a file of a plausible size")
    return file.read()


def _load_arrays(pickled: bytes) -> dict[str, Any]:
    batch = _ArrayUnpickler(io.BytesIO(pickled), encoding="latin1").load()
    return {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """The one use of ``_codecs.encode`` in pickles: bytes, in protocols that have no bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text encoding {encoding!r} is not allowed")
    return codecs.latin_1_encode(text)[0]


_ALLOWED_GLOBALS: dict[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _latin1_bytes,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    # The functions that an array names when it is pickled, wherever this numpy keeps them.
    ("numpy._core.multiarray", "_reconstruct"): cast(Any, np.empty(0).__reduce__()[0]),
    ("numpy._core.numeric", "_frombuffer"): cast(Any, np.empty(0).__reduce_ex__(5)[0]),
}


class _ArrayUnpickler(pickle.Unpickler):
    """Builds containers, numbers, strings and numpy arrays; every other global is refused."""

    def find_class(self, module: str, name: str) -> Any:
        found = _ALLOWED_GLOBALS.get((module.replace("numpy.core", "numpy._core"), name))
        if found is None:
            raise pickle.UnpicklingError(f"its pickle asks for {module}.{name}, which arrays do not need")
        return found


def _read_idx(path: Path, num_dims: int) -> np.ndarray:
    """Read a gzipped IDX file of bytes: magic 0, 0, 8 (uint8), number of dimensions; sizes big-endian; data."""
    try:
        with gzip.open(path) as file:
            data = file.read(MAX_UNPACKED_BYTES)
    except (OSError, EOFError, zlib.error) as err:
        raise UserError(f"{path} cannot be read: {err}") from err
    header_bytes = 4 + 4 * num_dims
    shape = [int.from_bytes(data[start : start + 4], "big") for start in range(4, header_bytes, 4)]
    if data[:4] != bytes([0, 0, 8, num_dims]) or len(data) != header_bytes + math.prod(shape):
        raise UserError(f"{path} is not an IDX file of bytes with {num_dims} dimensions, or it is truncated")
    return np.frombuffer(data, dtype=np.uint8, offset=header_bytes).reshape(shape)
