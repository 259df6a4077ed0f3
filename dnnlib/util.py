"""Dictionaries with attributes, objects by name, console logs, durations, cached downloads."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import os
import sys
import tempfile
import traceback
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, BinaryIO, TextIO

from dnnlib.download import download
from dnnlib.file_content import content_fault, sha256_of


class UserError(ValueError):
    """A mistake that the user can fix; the message says in one line what is wrong, where, and what to do."""


class EasyDict(dict):
    """A dict whose string keys are also attributes: ``d.lr = 1`` means ``d['lr'] = 1``.

    Pickles of StyleGAN2-ADA refer to this class by the name of this module (docs/compatibility.md).
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
            raise AttributeError(f"no key {key[:100]!a}", name=key, obj=self)


HOME = __name__.removesuffix("dnnlib.util")
"""What the names of this project's modules begin with here: nothing, or ``mscond.modules.`` in programs of others."""


def name_of_class(cls: type) -> str:
    """Return the dotted name that `get_obj_by_name` finds a class by, for files: ours without `HOME`."""
    return f"{cls.__module__.removeprefix(HOME)}.{cls.__qualname__}"


def module_name_here(module_name: str) -> str:
    """Return the name of a module in this process; ours may be below `HOME`."""
    is_below = HOME and importlib.util.find_spec(HOME + module_name.partition(".")[0]) is not None
    return HOME + module_name if is_below else module_name


def get_obj_by_name(name: str) -> Any:
    """Import the object with a dotted path, e.g. ``'training.networks.Generator'`` or ``'torch.optim.Adam'``.

    Raises:
        UserError: There is no module or attribute of that name. Errors inside an existing module pass through.
    """
    parts = name.split(".")
    for num_module_parts in range(len(parts) if all(parts) else 0, 0, -1):
        module_name = module_name_here(".".join(parts[:num_module_parts]))
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
    raise UserError(f"cannot find {name[:100]!a}: give the full dotted path of a function or class")


def call_func_by_name(*args: Any, func_name: str, **kwargs: Any) -> Any:
    """Call the function with the dotted path ``func_name``; see `get_obj_by_name` for errors."""
    return _call(func_name, args, kwargs)


def construct_class_by_name(*args: Any, class_name: str, **kwargs: Any) -> Any:
    """Construct an instance of the class with the dotted path ``class_name``; see `get_obj_by_name` for errors."""
    return _call(class_name, args, kwargs)


def _call(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    target = get_obj_by_name(name)
    if not callable(target):
        raise UserError(f"{name[:100]!a} is a {type(target).__name__}: give a function or a class")
    return target(*args, **kwargs)


def format_number(value: float, digits: int = 4) -> str:
    """Write a number with so many digits, or with all of its whole part up to 15, without a power of ten."""
    is_long = 10**digits - 0.5 <= abs(value) < 1e15
    return f"{value:.0f}" if is_long else f"{value:.{digits}g}"


def format_kimg(kimg: float) -> str:
    """Write thousands of images with four digits, or all that a whole number has."""
    return format_number(kimg)


def format_time(seconds: float) -> str:
    """Format a duration, with at most three units: ``12s``, ``1m 05s``, ``1h 02m 03s``, ``1d 02h 03m``."""
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


class _Nowhere(io.TextIOBase):
    """Stands for a stream that a process does not have, such as those of pythonw."""

    def write(self, text: str) -> int:
        return len(text)


class _Tee:
    """A text stream that also writes to a log; all other attributes are those of the stream.

    That the stream fails, because its reader has gone or it is closed, must not end what prints to it.
    """

    def __init__(self, stream: TextIO | None, log: Logger) -> None:
        self._stream: Any = _Nowhere() if stream is None else stream
        self._log = log

    def write(self, text: str) -> int:
        self.write_to_log(text)
        with contextlib.suppress(OSError, ValueError):
            try:
                self._stream.write(text)
            except UnicodeError:
                self._stream.write(_escaped(text, self._stream.encoding))
        if self._log.should_flush:
            self.flush()
        return len(text)

    def flush(self) -> None:
        self.try_to_flush()

    def try_to_flush(self) -> bool:
        """Flush the stream if that works; returns whether it did."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return False
        return True

    def write_to_log(self, text: str) -> None:
        self._log.write_to_file(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _escaped(text: str, encoding: str) -> str:
    """Escape what an encoding cannot hold."""
    return text.encode(encoding, "backslashreplace").decode(encoding)


class Logger:
    """Copy everything printed to stdout and stderr into a file until closed.

    Printing goes on where nobody reads it any more, as after ``| head``, and where there is no console at all.
    As a context manager it closes itself; an exception that leaves the block is written to the file too.

    Args:
        file_name: The log, UTF-8; None copies nothing.
        file_mode: ``'w'`` to overwrite, ``'a'`` to append.
        should_flush: Flush after each write, so that a killed process leaves its last line.
    """

    def __init__(
        self, file_name: str | os.PathLike[str] | None = None, file_mode: str = "w", should_flush: bool = True
    ) -> None:
        self.should_flush = should_flush
        self._file: IO[str] | None = None
        if file_name is not None:
            self._file = open(  # noqa: SIM115 - close() does
                file_name, file_mode, encoding="utf-8", errors="backslashreplace"
            )
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
        """Write ``text`` to the file only; on a full disk it is lost, as a log must not end what it reports on."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.write(text)
                if self.should_flush:
                    self._file.flush()

    def flush(self) -> None:
        """Flush the file and both streams, as far as they can be written to."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.flush()
        for tee in self._tees:
            tee.flush()

    def close(self) -> None:
        """Restore stdout and stderr and close the file; a second call does nothing.

        A stream that cannot be flushed stays wrapped: Python flushes it at the end, and would call that a failure.
        """
        for name, tee, previous in zip(("stdout", "stderr"), self._tees, self._previous, strict=True):
            if getattr(sys, name) is tee and tee.try_to_flush():
                setattr(sys, name, previous)
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


def write_to_log(text: str) -> None:
    """Write ``text`` to the file of the `Logger` that stdout is copied by, if there is one, without printing it."""
    if isinstance(sys.stdout, _Tee):
        sys.stdout.write_to_log(text)


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
    """Whether ``obj`` is an http or https URL with a host or, if allowed, a ``file:`` URL."""
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
        raise UserError(f"no such file: {_printable(path)}")
    if sha256 is not None and sha256_of(path) != sha256.lower():
        raise UserError(f"{_printable(path)}: sha256 is {sha256_of(path)}, expected {sha256}; get the file again")
    return path if return_filename else open(path, "rb")


def _cache_name(url: str) -> str:
    """Make a file name that is readable and unique to the URL."""
    stem = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name
    readable = "".join(char if char.isalnum() or char in "-_." else "_" for char in stem)[-100:]
    return f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{readable}"


def _printable(path: str) -> str:
    """Show a path as it is, or escaped if it would do something to the terminal."""
    return path if path.isprintable() else ascii(path)
