"""The best snapshot of a run: ``best.json`` names it, and ``network-snapshot-best.pkl`` is a hard link to it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from dnnlib.json_file import write_json
from dnnlib.jsonl import finite
from metrics.direction import is_higher_better
from training.run.health.replay import read_conditions
from training.run.json_files import read_json_object

BEST_FILE = "best.json"
BEST_SNAPSHOT = "network-snapshot-best.pkl"


def keep_best(run_dir: Path, score: str, value: float, kimg: float, snapshot: Path) -> bool:
    """Keep a snapshot as the best if its score is better than that of the best one so far; returns whether it is.

    It also becomes the best if the two scores are not comparable: another metric, or other conditions according to the
    records in ``metric-*.jsonl``.

    Raises:
        OSError: The files cannot be written.
    """
    direction = is_higher_better(score)
    if direction is None:
        return False
    conditions = read_conditions(run_dir, score, value, snapshot)
    best = read_best(run_dir)
    if (
        best is not None
        and best["score"] == score
        and _is_alike(best.get("conditions"), conditions)
        and (value <= best["value"] if direction else value >= best["value"])
    ):
        return False
    temp = run_dir / f".{BEST_SNAPSHOT}.tmp"
    temp.unlink(missing_ok=True)
    try:
        os.link(snapshot, temp)
    except OSError:  # the file system has no hard links
        shutil.copyfile(snapshot, temp)
    temp.replace(run_dir / BEST_SNAPSHOT)
    record = {"snapshot": snapshot.name, "score": score, "value": value, "kimg": kimg, "conditions": conditions}
    write_json(run_dir / BEST_FILE, record)
    return True


def _is_alike(before: Any, now: dict[str, Any]) -> bool:
    """Return whether the conditions of two scores agree; files of older runs contain none, which count as equal."""
    return not before or not now or before == now


def read_best(run_dir: Path) -> dict[str, Any] | None:
    """Read ``best.json``; returns None if it is missing or damaged.

    Its keys are 'snapshot', the name of a file, 'score', 'value' and 'kimg'. Newer runs add 'conditions', under which
    the score was computed (`training.run.health.replay.CONDITIONS`).
    """
    record = read_json_object(run_dir / BEST_FILE)
    if record is None:
        return None
    has_texts = all(isinstance(record.get(name), str) for name in ("snapshot", "score"))
    has_numbers = all(finite(record.get(name)) is not None for name in ("value", "kimg"))
    return record if has_texts and has_numbers else None
