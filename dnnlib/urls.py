"""Opening of files by path or URL; downloads are cached."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import urllib.parse
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from dnnlib.cache_folder import make_cache_dir_path
from dnnlib.download import download
from dnnlib.errors import UserError
from dnnlib.file_content import content_fault, sha256_of
from dnnlib.formatting import printable


def is_url(obj: Any, allow_file_urls: bool = False) -> bool:
    """Return whether ``obj`` is an http or https URL with a host or, if allowed, a ``file:`` URL."""
    if not isinstance(obj, str):
        return False
    try:
        parts = urllib.parse.urlsplit(obj)
    except ValueError:
        return False
    return (parts.scheme in ("http", "https") and bool(parts.hostname)) or (allow_file_urls and parts.scheme == "file")


def open_url(
    url: str | os.PathLike[str],
    cache_dir: str | os.PathLike[str] | None = None,
    num_attempts: int = 3,
    verbose: bool = True,
    return_filename: bool = False,
    cache: bool = True,
    sha256: str | None = None,
    _opener: urllib.request.OpenerDirector | None = None,
) -> Any:
    """Open a local file or an https URL for reading in binary mode; downloads are verified and cached.

    Args:
        url: A path, a ``file://`` URL or an ``https://`` URL.
        cache_dir: Folder of the downloaded files. Default: ``downloads`` in the cache folder.
        num_attempts: Number of attempts if a download fails for a reason that may pass.
        verbose: Print the URL of a download and show its progress.
        return_filename: Return the path of the local or cached file instead of an open file.
        cache: Keep the download. Without, it is held in memory.
        sha256: Expected checksum in hexadecimal; a file that differs is not used.
        _opener: Sends the requests instead of an opener that speaks https only.

    Raises:
        UserError: There is no such file, the URL is not https, the checksum is wrong, or the download failed. The
            message names the path where a file that was obtained in another way can be put.
    """
    url = os.fspath(url)
    if not is_url(url):
        return _open_local(url, return_filename, sha256)
    if return_filename and not cache:
        raise ValueError("open_url: return_filename=True needs cache=True")
    if not url.isascii() or not url.isprintable() or (_opener is None and not url.startswith("https://")):
        raise UserError(
            f"{url[:200]!a}: only https URLs in ASCII are downloaded; get the file yourself and give its path"
        )
    path = Path(cache_dir or make_cache_dir_path("downloads"), _cache_name(url)).absolute()
    if path.is_file() and (sha256 is None or sha256_of(path) == sha256.lower()):
        if fault := content_fault(path):
            raise UserError(f"{path} is {fault}, not what {url} names: delete it to download it again")
    else:
        fetch = partial(download, url, num_attempts=num_attempts, sha256=sha256, verbose=verbose, opener=_opener)
        try:
            if not cache:
                with tempfile.TemporaryDirectory() as folder:
                    fetch(temp := Path(folder, path.name))
                    return io.BytesIO(temp.read_bytes())
            fetch(path)
        except OSError as err:
            raise UserError(f"cannot download {url}: {err}. If you have the file, put it at {path}") from err
    return str(path) if return_filename else path.open("rb")


def _open_local(path: str, return_filename: bool, sha256: str | None) -> str | BinaryIO:
    if is_url(path, allow_file_urls=True):
        path = urllib.request.url2pathname(urllib.parse.urlsplit(path).path)
    if not Path(path).is_file():
        raise UserError(f"no such file: {printable(path)}")
    if sha256 is not None and sha256_of(path) != sha256.lower():
        raise UserError(f"{printable(path)}: sha256 is {sha256_of(path)}, expected {sha256}; get the file again")
    return path if return_filename else open(path, "rb")


def _cache_name(url: str) -> str:
    """Make a file name that is readable and unique to the URL."""
    stem = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name
    readable = "".join(char if char.isalnum() or char in "-_." else "_" for char in stem)[-100:]
    return f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{readable}"
