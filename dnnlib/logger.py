"""A log of what a process prints."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from types import TracebackType
from typing import IO, Any, TextIO


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

    Printing goes on where nobody reads it anymore, as after ``| head``, and where there is no console at all.
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
