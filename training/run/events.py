"""TensorBoard event files, which are resumed after a full disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np


class EventFiles:
    """Event files of one run; there are none if TensorBoard is not installed.

    Args:
        run_dir: Run folder.
        step: First step to be written; TensorBoard drops events of this and later steps from an earlier session.
    """

    def __init__(self, run_dir: Path, step: int) -> None:
        self._run_dir = run_dir
        self._purge_step = step or None
        self._writer: Any = None

    def write(self, values: Mapping[str, float], step: int, timestamp: float | None = None) -> None:
        """Write values by name.

        Raises:
            OSError: For example, the disk is full; the next call tries again, in a new file.
        """

        def add(writer: Any) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, global_step=step, walltime=timestamp)

        self._write(add, step)

    def write_image(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Write an image, uint8 ``[H, W, C]`` with 1 or 3 channels.

        Raises:
            OSError: As for `write`.
        """
        self._write(lambda writer: writer.add_image(name, pixels, global_step=step, dataformats="HWC"), step)

    def _write(self, add: Callable[[Any], None], step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # takes a second to import
        except ImportError:
            return
        _silence_writer_threads()
        try:
            if self._writer is None:
                self._writer = SummaryWriter(str(self._run_dir), purge_step=self._purge_step)
            add(self._writer)
            self._writer.flush()
        except (OSError, UnicodeError) as error:  # UnicodeError: TensorBoard takes only folders whose names are UTF-8
            self._purge_step = step or None
            self.close()
            if isinstance(error, UnicodeError):
                raise OSError(f"TensorBoard cannot write to {str(self._run_dir)!a}: its name is not UTF-8") from error
            raise

    def close(self) -> None:
        """Close the file; the next `write` opens another."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()
            self._writer = None


def _silence_writer_threads() -> None:
    """Keep TensorBoard's threads from printing a traceback of an error that `EventFiles.write` raises too."""
    before = threading.excepthook
    if getattr(before, "silences_writer_threads", False):
        return

    def hook(args: Any) -> None:
        if not (isinstance(args.exc_value, OSError) and type(args.thread).__name__ == "_AsyncWriterThread"):
            before(args)

    hook.silences_writer_threads = True  # type: ignore[attr-defined]
    threading.excepthook = hook
