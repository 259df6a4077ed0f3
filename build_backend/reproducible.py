"""Builds the wheel and the sdist with setuptools, and makes them the same, byte by byte, wherever they are built.

Times are that of SOURCE_DATE_EPOCH (default: 1980), permissions and owners are fixed, entries are in order. What the
compression makes of this depends on the version of zlib alone.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

EARLIEST_SEC = 315532800
"""1980-01-01, before which a zip cannot date a file."""
FILE_MODE, FOLDER_MODE = 0o644, 0o755


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """Build the wheel (PEP 517)."""
    shutil.rmtree("build/lib", ignore_errors=True)  # setuptools would pack what an earlier build has left there
    name = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    path = Path(wheel_directory, name)
    path.write_bytes(same_zip(path.read_bytes(), epoch_sec()))
    return name


def build_sdist(sdist_directory: str, config_settings: Any = None) -> str:
    """Build the source distribution (PEP 517)."""
    name = build_meta.build_sdist(sdist_directory, config_settings)
    path = Path(sdist_directory, name)
    path.write_bytes(same_tar_gz(path.read_bytes(), epoch_sec()))
    return name


def epoch_sec() -> int:
    """Return the time of all files."""
    return max(int(os.environ.get("SOURCE_DATE_EPOCH", 0)), EARLIEST_SEC)


def same_zip(data: bytes, time_sec: int) -> bytes:
    """Write a zip again: names and contents stay."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name in sorted(source.namelist(), key=lambda name: (".dist-info/" in name, name)):  # metadata last: PEP 427
            entry = zipfile.ZipInfo(name, time.gmtime(time_sec)[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, which the permissions are those of
            entry.external_attr = (0o100000 | FILE_MODE) << 16
            target.writestr(entry, source.read(name))
    return buffer.getvalue()


def same_tar_gz(data: bytes, time_sec: int) -> bytes:
    """Write a tar.gz again: names and contents stay."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as source, tarfile.open(fileobj=buffer, mode="w") as target:
        for member in sorted(source.getmembers(), key=lambda member: member.name):
            entry = tarfile.TarInfo(member.name)
            entry.type, entry.size, entry.mtime = member.type, member.size, time_sec
            entry.mode = FOLDER_MODE if member.isdir() else FILE_MODE
            target.addfile(entry, source.extractfile(member))
    return gzip.compress(buffer.getvalue(), mtime=time_sec)
