"""The folder of downloads and of other files that can be made again."""

from __future__ import annotations

import os
from pathlib import Path

from dnnlib.errors import UserError

_cache_dir: str | None = None


def set_cache_dir(path: str | os.PathLike[str]) -> None:
    """Keep downloads and other reusable files under ``path`` from now on."""
    global _cache_dir
    _cache_dir = os.fspath(path)


def make_cache_dir_path(*paths: str) -> str:
    """Join ``paths`` to the cache folder: `set_cache_dir`, else $DNNLIB_CACHE_DIR, else ``~/.cache/dnnlib``.

    Raises:
        UserError: None of them is known: a container may run as a user without a home.
    """
    root = _cache_dir or os.environ.get("DNNLIB_CACHE_DIR") or _home() / ".cache" / "dnnlib"
    return str(Path(root, *paths))


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise UserError(
            "this user has no home folder for downloads and caches: set DNNLIB_CACHE_DIR, or HOME, to a folder"
        ) from error
