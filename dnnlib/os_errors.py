"""Errors of the operating system in words for a user."""

from __future__ import annotations

import errno
import os
import stat

from dnnlib.formatting import printable

_MAX_SHOWN_CHARS = 100

_PERMISSION = "permission denied; change its permissions, or choose another place"
_TOO_MANY = "too many files are open; close other programs, or raise the limit (ulimit -n)"
_FULL = "no space is left; free some, or choose another place"
_MEANINGS = {
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.ENOENT: "no such file or folder; correct the path",
    errno.EEXIST: "there is a file of this name; delete it, or choose another name",
    errno.EISDIR: "this is a folder; give a file",
    errno.ENOTDIR: "a file stands where a folder is needed; choose another path",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ELOOP: "its links lead in a circle; give the file itself",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EMFILE: _TOO_MANY,
    errno.ENFILE: _TOO_MANY,
    errno.EIO: "the disk or network drive failed; try again, or choose another place",
    errno.EADDRINUSE: "the address is in use; choose another port",
}


def describe_os_error(error: OSError) -> str:
    """Say in one line which file cannot be used, why, and what to do; other errors keep their own text."""
    if error.errno not in _MEANINGS:
        return str(error)
    meaning = _MEANINGS[error.errno]
    if error.filename is None:
        is_own = error.strerror != os.strerror(error.errno)  # such as tempfile's where nothing can be written
        return str(error.strerror) if is_own else meaning
    return f"{printable(str(error.filename))} cannot be read or written: {meaning}"


def path_fault(path: str | os.PathLike[str]) -> str | None:
    """Say which path cannot be used, whatever for, why, and what to do; None if it can be, or if nothing is there."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - pathlib takes what cannot be looked up for absent
        is_usable = os.access(path, os.R_OK | os.X_OK if stat.S_ISDIR(mode) else os.R_OK)
        fault = None if is_usable else _PERMISSION
    except OSError as error:
        fault = None if error.errno == errno.ENOENT else _MEANINGS.get(error.errno or 0, error.strerror)
    text = str(path)
    shown = text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}..."
    return fault and f"{printable(shown)}: {fault}"
