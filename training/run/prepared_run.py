"""A run that is ready to start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PreparedRun:
    """A run that is ready to start."""

    run_dir: Path
    kwargs: dict[str, Any]
    """Arguments of the training loop."""
    is_new: bool
    has_work: bool = True
    """False for a dry run, and for a run that is already finished."""
