"""All files below a folder, through links too, each folder once."""

from __future__ import annotations

import heapq
import os
import stat
from pathlib import Path
from typing import NamedTuple

from dnnlib.errors import UserError
from training.data.names import is_hidden

NOT_REGULAR = "not a regular file"
BROKEN_LINK = "broken link"
LISTED_TWICE = "link to a folder that is listed already"
UNREADABLE = "hidden folder that cannot be read"


class FileTree(NamedTuple):
    """What lies below a folder, as paths with forward slashes."""

    files: list[str]
    """Regular files and links to such, in no order."""
    ignored: dict[str, list[str]]
    """Reason -> names of what is neither a folder nor among the files."""


def list_files(root: Path) -> FileTree:
    """List all files below ``root``.

    Links to folders come after all other folders, in alphabetical order, and only if they lead to a folder that has
    not been listed: they cannot lead round in a circle, nor multiply.

    Raises:
        UserError: ``root`` or a folder in it cannot be listed.
    """
    tree = FileTree([], {})
    folders, linked_folders = [""], list[str]()
    seen: set[tuple[int, int]] = set()
    while folders or linked_folders:
        folder = folders.pop() if folders else heapq.heappop(linked_folders)
        try:
            if _is_new(root / folder, seen):
                _sort(root, folder, tree, folders, linked_folders)
            else:
                _ignore(tree, LISTED_TWICE, folder)
        except OSError as err:
            if not is_hidden(f"{folder}/"):
                raise UserError(f"{root / folder} cannot be listed: {err.strerror or err}") from err
            _ignore(tree, UNREADABLE, folder)
    return tree


def _is_new(folder: Path, seen: set[tuple[int, int]]) -> bool:
    status = folder.stat()
    identity = (status.st_dev, status.st_ino)
    is_new = identity not in seen
    seen.add(identity)
    return is_new


def _sort(root: Path, folder: str, tree: FileTree, folders: list[str], linked_folders: list[str]) -> None:
    """Put each thing in a folder on the list where it belongs."""
    with os.scandir(root / folder) as entries:
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_symlink():
                _sort_link(entry.path, name, tree, linked_folders)
            elif entry.is_dir(follow_symlinks=False):
                folders.append(name)
            elif entry.is_file(follow_symlinks=False):
                tree.files.append(name)
            else:
                _ignore(tree, NOT_REGULAR, name)


def _sort_link(path: str, name: str, tree: FileTree, linked_folders: list[str]) -> None:
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        _ignore(tree, BROKEN_LINK, name)
        return
    if stat.S_ISDIR(mode):
        heapq.heappush(linked_folders, name)
    elif stat.S_ISREG(mode):
        tree.files.append(name)
    else:
        _ignore(tree, NOT_REGULAR, name)


def _ignore(tree: FileTree, reason: str, name: str) -> None:
    tree.ignored.setdefault(reason, []).append(name)
