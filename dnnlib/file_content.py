"""What a file holds: its checksum, and whether something else lies in its place."""

from __future__ import annotations

import hashlib
import os
import re

_CHUNK_BYTES = 1 << 20


def content_fault(path: str | os.PathLike[str]) -> str | None:
    """Say what lies in place of the file, or None if nothing wrong is found; see `placeholder`."""
    with open(path, "rb") as file:
        return placeholder(file.read(512))


def placeholder(head: bytes) -> str | None:
    """Recognize what failed downloads and git leave in place of a file.

    Args:
        head: Its first bytes, up to 512.

    Returns:
        What it is, such as "an empty file" or "a web page", or None for all else.
    """
    if not head:
        return "an empty file"
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer, whose file comes by git lfs pull"
    is_text = not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", head)
    return "a web page" if is_text and re.match(rb"(\xef\xbb\xbf)?\s*<", head) else None


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Compute the checksum of a file in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
