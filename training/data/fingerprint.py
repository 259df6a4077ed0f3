"""Detects whether a dataset has changed, though it may have been packed, unpacked or moved since."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from dnnlib.errors import UserError
from training.data.archive_base import METADATA_FILE, Archive
from training.data.folder_archive import FolderArchive
from training.data.names import Names
from training.data.zip_archive import ZipArchive

T = TypeVar("T")
NUM_SAMPLED = 64
"""Number of files in a folder that are read to describe it; a zip's table of contents has the checksums of all."""


def describe_content(archive: Archive) -> dict[str, Any]:
    """Describe the files of a dataset, hidden ones excepted, in a time that does not depend on their sizes.

    Returns:
        JSON values for `is_unchanged` and `describe_doubt`: of a zip a hash of the names and contents of all files, of
        a folder hashes of the names, of the sizes, and of the names and contents of some files, and when the latest
        file was written. None for what cannot be read.
    """
    visible = _visible(archive)
    sample = _unless_unreadable(lambda: next(_samples(archive, visible)))
    if isinstance(archive, ZipArchive):
        return {"digest": archive.fingerprint(visible), "sample": sample}
    names = _hash_names(archive.names.select(visible))
    sizes, newest_ns = _unless_unreadable(lambda: _hash_sizes(archive, visible)) or (None, None)
    return {"names": names, "sizes": sizes, "newest_ns": newest_ns, "sample": sample}


def is_unchanged(archive: Archive, described: Mapping[str, Any]) -> bool:
    """Compare a dataset with the description of it in a checkpoint.

    A folder that was a zip when it was described is read through.

    Args:
        archive: The dataset.
        described: What `describe_content` returned, or a description by older versions: in "digest" the hash of all
            files or, of a folder, of their names. What is missing is not compared.

    Raises:
        UserError: A file cannot be read.
    """
    visible = _visible(archive)
    if "sample" not in described:
        digest = described.get("digest")
        return digest is None or digest in _older_digests(archive, visible)
    if described["sample"] is not None and described["sample"] not in _samples(archive, visible):
        return False
    if "names" in described:
        if described["names"] != _hash_names(archive.names.select(visible)):
            return False
        sizes = described.get("sizes")
        return sizes is None or sizes == _hash_sizes(archive, visible)[0]
    return described.get("digest") in (None, archive.fingerprint(visible))


def describe_doubt(archive: Archive, described: Mapping[str, Any]) -> str | None:
    """Say in a sentence why an image might have changed although `is_unchanged` finds no difference.

    Most files of a folder are not read, and one of the same size may show something else; None if no file was written
    since.

    Raises:
        UserError: A file cannot be read.
    """
    before_ns = described.get("newest_ns")
    if not isinstance(archive, FolderArchive) or not isinstance(before_ns, int):
        return None
    _sizes, newest_ns = _hash_sizes(archive, _visible(archive))
    if newest_ns <= before_ns:
        return None
    return (
        f"files in {archive.path} were written after the run began; names, sizes and the contents of {NUM_SAMPLED} of "
        "them are as they were, the others were not read"
    )


def _older_digests(archive: Archive, visible: np.ndarray) -> Iterator[str]:
    """Yield what older versions may have written down, the quick ones first."""
    yield _hash_names(archive.names)
    yield _hash_names(archive.names.select(visible))
    yield archive.fingerprint()
    yield archive.fingerprint(visible)


def _visible(archive: Archive) -> np.ndarray:
    return np.flatnonzero(~archive.names.hidden())


def _hash_names(names: Names) -> str:
    digest, separator = hashlib.sha256(), ""
    for name in names:
        digest.update((separator + name).encode(errors="surrogateescape"))  # the bytes of a folder's file names
        separator = "\n"
    return digest.hexdigest()


def _unless_unreadable(compute: Callable[[], T]) -> T | None:
    """Return None where a file cannot be read: training itself may never need it."""
    try:
        return compute()
    except UserError:
        return None


def _hash_sizes(archive: Archive, visible: np.ndarray) -> tuple[str, int]:
    """Hash the sizes of files, and find when the latest was written."""
    sizes, newest_ns = archive.sizes_and_newest_ns(visible)
    return hashlib.sha256(sizes.astype("<i8").tobytes()).hexdigest(), newest_ns


def _samples(archive: Archive, visible: np.ndarray) -> Iterator[str]:
    """Hash the names and contents of the labels and of some files; then as versions did that read fewer labels."""
    positions = np.linspace(0, visible.size - 1, min(NUM_SAMPLED, visible.size)).round().astype(np.int64)
    for metadata in (archive.find_record(METADATA_FILE), METADATA_FILE):
        index = None if metadata is None else archive.names.find(metadata)
        indices = {*visible[positions].tolist(), *([] if index is None else [index])}
        yield archive.fingerprint(np.array(sorted(indices), np.int64))
