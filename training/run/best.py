"""The best snapshot of a run: ``best.json`` names it, ``network-snapshot-best.pkl`` is another name of its file."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from dnnlib.atomic import write_atomic
from dnnlib.jsonl import finite
from metrics.direction import is_higher_better
from training.run.folder import read_small_file
from training.run.health.replay import read_conditions

BEST_FILE = "best.json"
BEST_SNAPSHOT = "network-snapshot-best.pkl"


def keep_best(run_dir: Path, score: str, value: float, kimg: float, snapshot: Path) -> bool:
    """Keep a snapshot if it is better than all before by the same score, or the first by it; returns whether it is.

    A score is another one if its record in ``metric-*.jsonl`` says that it compares with other images.

    Raises:
        OSError: The files cannot be written.
    """
    direction = is_higher_better(score)
    if direction is None:
        return False
    conditions = read_conditions(run_dir, score, snapshot)
    best = read_best(run_dir)
    if (
        best is not None
        and best["score"] == score
        and _is_alike(best.get("conditions"), conditions)
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
    record = {"snapshot": snapshot.name, "score": score, "value": value, "kimg": kimg, "conditions": conditions}
    write_atomic(run_dir / BEST_FILE, json.dumps(record).encode() + b"\n")
    return True


def _is_alike(before: Any, now: dict[str, Any]) -> bool:
    """Whether two scores may be compared, as far as is known: older files do not tell."""
    return not before or not now or before == now


def read_best(run_dir: Path) -> dict[str, Any] | None:
    """Read ``best.json``: 'snapshot', the name of its file, 'score', 'value' and 'kimg'.

    What is newer has 'conditions' too, what the score was computed of (`training.run.health.replay.CONDITIONS`).
    Returns None if there is none or it is damaged.
    """
    try:
        record = json.loads(read_small_file(run_dir / BEST_FILE))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    has_texts = all(isinstance(record.get(name), str) for name in ("snapshot", "score"))
    has_numbers = all(finite(record.get(name)) is not None for name in ("value", "kimg"))
    return record if has_texts and has_numbers else None
