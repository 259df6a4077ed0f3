"""Opening of folders and zips; a zip with entries that could do harm is refused."""

from __future__ import annotations

import os
from pathlib import Path

from dnnlib.errors import UserError
from training.data.archive_base import Archive
from training.data.folder_archive import FolderArchive
from training.data.names import shown
from training.data.zip_archive import ZipArchive
from training.data.zip_contents import LOCAL_HEADER_MAGIC


def open_archive(path: str | os.PathLike[str]) -> Archive:
    """Open a folder or a zip.

    Raises:
        UserError: It does not exist, is neither, cannot be read, or is a zip with a refused entry (see
            `training.data.zip_contents.read_contents`).
    """
    path = Path(path)
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError as err:  # another user's, or a name that is too long
        raise UserError(f"{shown(str(path))} cannot be read: {err.strerror or err}") from err
    if is_folder:
        return FolderArchive(path)
    if not exists:
        raise UserError(f"no such folder or zip: {path}")
    if path.suffix.lower() != ".zip" or not path.is_file():
        raise UserError(f"{path} is neither a folder nor a .zip: {_way_out(path)}")
    return ZipArchive(path)


def _way_out(path: Path) -> str:
    if path.is_file() and not path.suffix:  # others, such as .npz, are zips of something else
        with open(path, "rb") as file:
            if file.read(len(LOCAL_HEADER_MAGIC)) == LOCAL_HEADER_MAGIC:
                return f"by its content it is a zip, so rename it to {path.name}.zip"
    return "give a folder or zip of images; archives of other kinds must be unpacked"
