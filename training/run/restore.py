"""Restoring a run from its newest checkpoint, once its images have been compared with those that it began with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dnnlib.errors import UserError
from dnnlib.heartbeat import heartbeat
from torch_utils import distributed
from training import checkpoint
from training.data.fingerprint import describe_content, describe_doubt, is_unchanged
from training.run.folder import refuse_to_start_over
from training.run.settings import TrainingSettings
from training.run.settings_changes import comparable_options, describe_changes


def find_checkpoint(run_dir: Path, say: Callable[[str], None]) -> Path | None:
    """Find the newest intact checkpoint of a run and delete what a killed process has left; for the main process.

    Args:
        run_dir: Run folder.
        say: Prints a line.

    Raises:
        UserError: There is none, but the run has trained.
    """
    checkpoint.remove_leftovers(run_dir)
    path, warnings = checkpoint.find_newest_checkpoint(run_dir)
    for warning in warnings:
        say(warning)
    if path is None:
        refuse_to_start_over(run_dir)
    return path


def restore_from(
    path: Path,
    stateful: Mapping[str, checkpoint.Stateful],
    training_set: Any,
    settings: TrainingSettings,
    say: Callable[[str], None],
) -> int:
    """Restore everything that the next iteration depends on; every process must call this.

    Args:
        path: A checkpoint.
        stateful: What it is restored to, by the names in the checkpoint.
        training_set: The images of the run.
        settings: Settings of the run, whose changes since the checkpoint are listed.
        say: Prints a line.

    Returns:
        Length of ``stats.jsonl`` in bytes when the checkpoint was saved.

    Raises:
        UserError: The checkpoint is damaged, or does not fit the settings or the images.
    """
    tree = checkpoint.load_checkpoint(path)
    try:
        log_bytes = tree.get("log_bytes")
        if type(log_bytes) is not int or log_bytes < 0:
            raise checkpoint.CheckpointError("is damaged: it lacks the length of its log")
        _check_dataset(training_set, tree.get("dataset", {}), settings, say)
        checkpoint.restore(stateful, tree)
    except checkpoint.CheckpointError as error:
        raise UserError(f"{path}: {error}") from error
    changes = describe_changes(tree.get("options", {}), comparable_options(settings))
    if changes is not None:
        say(f"Note: {changes}")
    return log_bytes


def describe_dataset(training_set: Any) -> dict[str, Any]:
    """Return the record of a dataset that checkpoints keep, as it must not change during a run."""
    archive = getattr(training_set, "archive", None)
    return {"num_images": len(training_set), **({} if archive is None else describe_content(archive))}


def _check_dataset(
    training_set: Any, saved: dict[str, Any], settings: TrainingSettings, say: Callable[[str], None]
) -> None:
    """Refuse another dataset; every process must call this."""
    path = settings.training_set_kwargs.get("path")
    archive, is_same, doubt = getattr(training_set, "archive", None), True, None
    if archive is not None and settings.is_main and saved.get("num_images") == len(training_set):
        with heartbeat(lambda: f"Comparing the images in {path} with those that the run began with ..."):
            is_same, doubt = is_unchanged(archive, saved), describe_doubt(archive, saved)
    if not distributed.from_rank0(is_same):
        raise checkpoint.CheckpointError(
            f"the images in {path} have changed since it was saved; "
            "restore them, or start a new run with --resume for the new ones"
        )
    if doubt is not None:
        say(f"Note: {doubt}")
