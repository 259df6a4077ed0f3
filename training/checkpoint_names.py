"""The file names of checkpoints: ``training-state-<nimg>.safetensors``, nimg being the images seen, in nine digits."""

from __future__ import annotations

import re
from pathlib import Path

PREFIX = "training-state-"
SUFFIX = ".safetensors"

_NAME = re.compile(rf"{PREFIX}(\d{{9,}}){re.escape(SUFFIX)}")


def checkpoint_name(nimg: int) -> str:
    """Return the name of the checkpoint after ``nimg`` images."""
    return f"{PREFIX}{nimg:09d}{SUFFIX}"


def checkpoint_nimg(name: str) -> int | None:
    """Return the images seen according to the name of a checkpoint; None if it is not one."""
    match = _NAME.fullmatch(name)
    return None if match is None else int(match[1])


def list_checkpoints(run_dir: Path) -> list[Path]:
    """List the checkpoints of a run, oldest first, damaged ones included unless they have been renamed."""
    found = {nimg: path for path in run_dir.iterdir() if (nimg := checkpoint_nimg(path.name)) is not None}
    return [found[nimg] for nimg in sorted(found)]


def has_checkpoint(run_dir: Path) -> bool:
    """Return whether a run has a checkpoint; its content is not read."""
    return any(checkpoint_nimg(path.name) is not None for path in run_dir.glob(f"{PREFIX}*"))


def has_had_checkpoint(run_dir: Path) -> bool:
    """Return whether a run has a checkpoint, or one that was renamed because it was damaged."""
    return any(run_dir.glob(f"{PREFIX}*{SUFFIX}*"))


def saved_nimg(run_dir: Path) -> int:
    """Return the images that a run had seen at its newest checkpoint; 0 without one."""
    return max(filter(None, (checkpoint_nimg(path.name) for path in run_dir.iterdir())), default=0)
