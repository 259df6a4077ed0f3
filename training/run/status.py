"""``exit_status.json``: whether a run is running or how it ended, and its progress."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from dnnlib.json_file import write_json
from training.run.json_files import read_json_object

STATUS_FILE = "exit_status.json"
SAVED = ("stopped", "finished")
"""Values of "reason" for runs that ended with a checkpoint."""
ENDED = (*SAVED, "interrupted", "failed", "unsaved", "diverged")
"""Values of "reason" for all runs that have ended."""
OF_THE_MACHINE = ("host", "pid", "error")
"""Where a run is running, and what ended it, which may name paths: nobody's business elsewhere."""
_TYPES: dict[str, type | tuple[type, ...]] = {
    "reason": str,
    "error": str,
    "name": str,
    "host": str,
    "pid": int,
    "kimg": (int, float),
    "total_kimg": (int, float),
}


def write_status(run_dir: Path, reason: str, kimg: float, total_kimg: float, **details: Any) -> None:
    """Record that a run is running or how it ended, and its progress.

    Args:
        run_dir: Run folder.
        reason: 'running'; 'stopped' or 'finished'; 'interrupted' or 'unsaved', if there is no checkpoint of the end;
            'failed', if an error ended it, with the detail 'error'; 'diverged', if that is why it was stopped. The
            detail 'retried' of a run that was running stays if it has failed.
        kimg: Thousands of images seen.
        total_kimg: Length of the run.
        **details: JSON values to store with them.
    """
    status = {"reason": reason, "kimg": kimg, "total_kimg": total_kimg, "name": run_dir.absolute().name, **details}
    if reason == "failed" and (retried := read_status(run_dir).get("retried")):
        status["retried"] = retried  # or metrics that end a run would do so each time it is continued
    if reason == "running":
        status.update(host=socket.gethostname(), pid=os.getpid())
    write_json(run_dir / STATUS_FILE, status)


def read_status(run_dir: Path) -> dict[str, Any]:
    """Read what `write_status` wrote, without values of the wrong type; empty if there is nothing readable."""
    status = read_json_object(run_dir / STATUS_FILE) or {}
    return {name: value for name, value in status.items() if isinstance(value, _TYPES.get(name, object))}
