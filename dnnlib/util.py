"""Dictionaries with attributes, objects by name, console logs, durations, cached files."""

from __future__ import annotations

import hashlib
import importlib
import io
import os
import sys
import traceback
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, BinaryIO, TextIO

from dnnlib.download import DownloadError, Opener, download, sha256_of


class UserError(ValueError):
    """A mistake that the user can mend; its text is one line that says what, where and how."""


class EasyDict(dict):
    """A dict whose string keys are attributes too: ``d.lr = 1`` is ``d['lr'] = 1``.

    Pickles of StyleGAN2-ADA name this class, so it stays in this module.
    """

    def __getattr__(self, key: str) -> Any:
        self._require(key)
        return self[key]

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = value

    def __delattr__(self, key: str) -> None:
        self._require(key)
        del self[key]

    def _require(self, key: str) -> None:
        if key not in self:
            raise AttributeError(f"no key '{key}'", name=key, obj=self)


# Objects by name


def get_obj_by_name(name: str) -> Any:
    """Import what a dotted path names, e.g. ``'training.networks.Generator'`` or ``'torch.optim.Adam'``.

    Raises:
        UserError: No module or attribute of that name. An error inside a module that exists is passed on.
    """
    parts = name.split(".")
    for num_module_parts in range(len(parts) if all(parts) else 0, 0, -1):
        module_name = ".".join(parts[:num_module_parts])
        try:
            obj: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as err:
            if err.name is None or not (module_name + ".").startswith(err.name + "."):
                raise
            continue
        try:
            for attribute in parts[num_module_parts:]:
                obj = getattr(obj, attribute)
        except AttributeError:
            break
        return obj
    raise UserError(f"cannot find '{name}': give the full dotted path of something importable")


def call_func_by_name(*args: Any, func_name: str, **kwargs: Any) -> Any:
    """Call the function with the dotted path ``func_name``."""
    return _call(func_name, args, kwargs)


def construct_class_by_name(*args: Any, class_name: str, **kwargs: Any) -> Any:
    """Construct an object of the class with the dotted path ``class_name``."""
    return _call(class_name, args, kwargs)


def _call(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    target = get_obj_by_name(name)
    if not callable(target):
        raise UserError(f"'{name}' is a {type(target).__name__}, not something to call")
    return target(*args, **kwargs)


# Console


def format_time(seconds: float) -> str:
    """Write a duration with its two or three largest units: ``12s``, ``1m 05s``, ``1h 02m 03s``, ``1d 02h 03m``."""
    minutes, secs = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02}h {minutes:02}m"
    if hours:
        return f"{hours}h {minutes:02}m {secs:02}s"
    if minutes:
        return f"{minutes}m {secs:02}s"
    return f"{secs}s"


class _Tee:
    """A text stream that also writes to a log; whatever else is asked of it, the stream answers."""

    def __init__(self, stream: TextIO, log: Logger) -> None:
        self._stream = stream
        self._log = log

    def write(self, text: str) -> int:
        self._log.write_to_file(text)
        num_chars = self._stream.write(text)
        if self._log.should_flush:
            self._stream.flush()
        return num_chars

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Logger:
    """Copy everything that is printed, to stdout and to stderr, into a file until closed.

    As a context manager it closes itself; an exception that leaves the block is written to the file too.

    Args:
        file_name: The log, UTF-8; None copies nothing.
        file_mode: ``'w'`` to start afresh, ``'a'`` to append.
        should_flush: Write through at once, so that a killed process leaves its last line.
    """

    def __init__(
        self, file_name: str | os.PathLike[str] | None = None, file_mode: str = "w", should_flush: bool = True
    ) -> None:
        self.should_flush = should_flush
        self._file: IO[str] | None = None
        if file_name is not None:
            self._file = open(file_name, file_mode, encoding="utf-8")  # noqa: SIM115 - close() does
        self._previous = (sys.stdout, sys.stderr)
        self._tees = (_Tee(sys.stdout, self), _Tee(sys.stderr, self))
        sys.stdout, sys.stderr = self._tees

    def __enter__(self) -> Logger:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if exc is not None and not isinstance(exc, SystemExit):
            self.write_to_file("".join(traceback.format_exception(exc)))
        self.close()

    def write(self, text: str) -> None:
        """Print ``text`` to the console and to the file."""
        self._tees[0].write(text)

    def write_to_file(self, text: str) -> None:
        """Write ``text`` to the file only."""
        if self._file is not None:
            self._file.write(text)
            if self.should_flush:
                self._file.flush()

    def flush(self) -> None:
        """Flush the file and both streams."""
        for stream in (self._file, *self._previous):
            if stream is not None:
                stream.flush()

    def close(self) -> None:
        """Give stdout and stderr back and close the file; a second call does nothing."""
        if sys.stdout is self._tees[0]:
            sys.stdout = self._previous[0]
        if sys.stderr is self._tees[1]:
            sys.stderr = self._previous[1]
        if self._file is not None:
            self._file.close()
            self._file = None


# Cached files

_cache_dir: str | None = None


def set_cache_dir(path: str | os.PathLike[str]) -> None:
    """Keep downloads and other reusable files under ``path`` from now on."""
    global _cache_dir
    _cache_dir = os.fspath(path)


def make_cache_dir_path(*paths: str) -> str:
    """Join ``paths`` to the cache folder: `set_cache_dir`, else $DNNLIB_CACHE_DIR, else ``~/.cache/dnnlib``."""
    root = _cache_dir or os.environ.get("DNNLIB_CACHE_DIR") or Path.home() / ".cache" / "dnnlib"
    return str(Path(root, *paths))


def is_url(obj: Any, allow_file_urls: bool = False) -> bool:
    """Whether ``obj`` is a string that names a host by http or https, or, if allowed, a ``file://`` URL."""
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
    _opener: Opener | None = None,
) -> Any:
    """Open a local file or an https URL for reading in binary mode; a download is kept and checked.

    Args:
        url: A path, a ``file://`` URL or an ``https://`` URL.
        cache_dir: Folder of the downloaded files. Default: ``downloads`` in the cache folder.
        num_attempts: How often to try a download that fails for a reason that may pass.
        verbose: Say on the console what is being downloaded from which host.
        return_filename: Return the path of the local or cached file instead of an open file.
        cache: Keep the download. Without, it is held in memory.
        sha256: Expected checksum in hexadecimal; a file that differs is not used.

    Raises:
        UserError: No such file, not https, a wrong checksum, or the download failed. Then the text says
            under which path the file can be put by hand.
    """
    url = os.fspath(url)
    if not is_url(url):
        return _open_local(url, return_filename, sha256)
    if return_filename and not cache:
        raise ValueError("open_url: return_filename=True needs cache=True")
    if _opener is None and not url.startswith("https://"):
        raise UserError(f"{url}: only https is downloaded; fetch it yourself and give its path")
    path = Path(cache_dir or make_cache_dir_path("downloads"), _cache_name(url)).absolute()
    if not (path.is_file() and (sha256 is None or sha256_of(path) == sha256.lower())):
        if verbose:
            print(f"Downloading {url}", flush=True)
        buffer = io.BytesIO()
        try:
            download(url, path if cache else buffer, num_attempts=num_attempts, sha256=sha256, opener=_opener)
        except DownloadError as err:
            raise UserError(
                f"cannot download {url}: {err}. If this machine is offline, put the file at {path}"
            ) from err
        if not cache:
            buffer.seek(0)
            return buffer
    return str(path) if return_filename else path.open("rb")


def _open_local(path: str, return_filename: bool, sha256: str | None) -> str | BinaryIO:
    if path.startswith("file:"):
        path = urllib.request.url2pathname(urllib.parse.urlsplit(path).path)
    if not Path(path).is_file():
        raise UserError(f"no such file: {path}")
    if sha256 is not None and sha256_of(path) != sha256.lower():
        raise UserError(f"{path}: sha256 is {sha256_of(path)}, expected {sha256}; get the file again")
    return path if return_filename else open(path, "rb")


def _cache_name(url: str) -> str:
    """A file name that people recognise and that differs between URLs."""
    stem = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name
    readable = "".join(char if char.isalnum() or char in "-_." else "_" for char in stem)[-100:]
    return f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{readable}"
