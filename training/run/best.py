"""The best snapshot of a run: ``best.json`` names it, ``network-snapshot-best.pkl`` is another name of its file."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from dnnlib.atomic import write_atomic
from metrics.direction import is_higher_better

BEST_FILE = "best.json"
BEST_SNAPSHOT = "network-snapshot-best.pkl"


def keep_best(run_dir: Path, score: str, value: float, kimg: float, snapshot: Path) -> bool:
    """Keep a snapshot if it is better than all before by the same score, or the first by it; returns whether it is.

    Raises:
        OSError: The files cannot be written.
    """
    direction = is_higher_better(score)
    if direction is None:
        return False
    best = read_best(run_dir)
    if (
        best is not None
        and best["score"] == score
        and (value <= best["value"] if direction else value >= best["value"])
    ):
        return False
    temp = run_dir / f".{BEST_SNAPSHOT}.tmp"
    with contextlib.suppress(FileNotFoundError):
        temp.unlink()
    try:
        os.link(snapshot, temp)
    except OSError:  # of file systems without hard links
        shutil.copyfile(snapshot, temp)
    temp.replace(run_dir / BEST_SNAPSHOT)
    record = {"snapshot": snapshot.name, "score": score, "value": value, "kimg": kimg}
    write_atomic(run_dir / BEST_FILE, json.dumps(record).encode() + b"\n")
    return True


def read_best(run_dir: Path) -> dict[str, Any] | None:
    """Read ``best.json``: 'snapshot', the name of its file, 'score', 'value' and 'kimg'; None if there is none."""
    types: dict[str, type | tuple[type, ...]] = {
        "snapshot": str,
        "score": str,
        "value": (int, float),
        "kimg": (int, float),
    }
    try:
        record = json.loads((run_dir / BEST_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    is_valid = isinstance(record, dict) and all(isinstance(record.get(name), type_) for name, type_ in types.items())
    return record if is_valid else None
