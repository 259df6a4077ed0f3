"""Whether a dataset is the one that it was, though it may have been packed, unpacked or moved since."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dnnlib.util import UserError
from training.data.archive import METADATA_FILE, Archive, ZipArchive
from training.data.names import Names

NUM_SAMPLED = 64
"""Files of a folder that are read to describe it; of a zip, the table of contents tells the checksums of all."""


def describe_content(archive: Archive) -> dict[str, Any]:
    """Describe the files of a dataset, hidden ones excepted, in a time that does not depend on their sizes.

    Returns:
        JSON values for `is_unchanged`: of a zip a hash of the names and contents of all files, of a folder a hash of
        the names and one of the names and contents of some files.
    """
    visible = _visible(archive)
    if isinstance(archive, ZipArchive):
        return {"digest": archive.fingerprint(visible), "sample": _sample(archive, visible)}
    return {"names": _hash_names(archive.names.select(visible)), "sample": _sample(archive, visible)}


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
    if described["sample"] not in (None, _sample(archive, visible)):
        return False
    if "names" in described:
        return bool(described["names"] == _hash_names(archive.names.select(visible)))
    return described.get("digest") in (None, archive.fingerprint(visible))


def _older_digests(archive: Archive, visible: np.ndarray) -> Iterator[str]:
    """What older versions may have written down, the quick ones first."""
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


def _sample(archive: Archive, visible: np.ndarray) -> str | None:
    """Hash the names and contents of the labels and of some files; None if one of them cannot be read."""
    positions = np.linspace(0, visible.size - 1, min(NUM_SAMPLED, visible.size)).round().astype(np.int64)
    metadata = archive.names.find(METADATA_FILE)
    indices = {*visible[positions].tolist(), *([] if metadata is None else [metadata])}
    try:
        return archive.fingerprint(np.array(sorted(indices), np.int64))
    except UserError:
        return None
