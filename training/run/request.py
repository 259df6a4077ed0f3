"""What ``train.py`` is asked for, and the run that it prepares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.run.flags import Flags
from training.run.photographs import PhotographFlags


@dataclass(frozen=True)
class RunRequest:
    """What the user asks of ``train.py``."""

    outdir: Path | None
    continue_run: str | None
    """Run folder or 'latest'; None for a new run."""
    flags: Flags | None
    """Flags of a new run; None if ``--data`` is missing."""
    device: str
    """'auto', 'cuda', 'cpu' or 'mps'."""
    runtime: dict[str, Any]
    """Arguments of the training loop that are not stored with the run."""
    is_dry_run: bool
    photographs: PhotographFlags | None = None
    """How the images of a new run are prepared first; None to train on them as they are."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """Values of the flags on the command line, by parameter name; a continued run is changed by them."""


@dataclass(frozen=True)
class Plan:
    """A run that is ready to start."""

    run_dir: Path
    kwargs: dict[str, Any]
    """Arguments of the training loop."""
    is_new: bool
    has_work: bool = True
    """False for a dry run, and for a run that is already finished."""
