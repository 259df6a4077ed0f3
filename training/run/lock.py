"""The lock of a run folder, which the process that trains in it holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from dnnlib.errors import UserError
from training.run.status import read_status

LOCK_FILE = ".lock"


@contextmanager
def lock_run(run_dir: Path) -> Iterator[None]:
    """Keep other processes from training in ``run_dir``; the system releases the lock if this process dies.

    Raises:
        UserError: Another process holds it, or it cannot be made.
    """
    lock = filelock.FileLock(run_dir / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        status = read_status(run_dir)
        is_known = "pid" in status and "host" in status
        where = f" (process {status['pid']} on {ascii(status['host'][:100])[1:-1]})" if is_known else ""
        # A file system without locks leaves the file as the only sign, which a copied run folder has too.
        raise UserError(
            f"{run_dir} is being trained by another process{where}; stop that one first, or if there is none, delete "
            f"{LOCK_FILE} in this folder"
        ) from None
    except OSError as error:
        raise UserError(f"{run_dir} cannot be written to: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()  # the file stays: removing it could take it away from a process that has just opened it


def is_locked(run_dir: Path) -> bool | None:
    """Return whether another process is training in ``run_dir``; None if the lock cannot be tried.

    Trying it takes permission to write, which the folder of another user may not give.
    """
    if not (run_dir / LOCK_FILE).exists():
        return False
    try:
        with filelock.FileLock(run_dir / LOCK_FILE).acquire(timeout=0):
            return False
    except filelock.Timeout:
        return True
    except OSError:
        return None
