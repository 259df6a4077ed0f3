"""Preparing to continue a run: its stored options, the flags that change them, and whether it can go on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dnnlib.commands import how_to_run
from dnnlib.errors import UserError
from dnnlib.formatting import plural
from torch_utils.device import choose_device
from training.checkpoint import find_damage, read_dataset_record
from training.checkpoint_names import has_checkpoint, list_checkpoints, saved_nimg
from training.data.fingerprint import is_unchanged
from training.dataset import ImageFolderDataset
from training.run import preflight
from training.run.arguments import check_argument_types, check_constructors
from training.run.dataset_info import DatasetInfo, inspect_dataset
from training.run.flags import Flags
from training.run.folder import (
    RunState,
    check_files,
    find_run_dir,
    find_state,
    read_spent_sec,
    refuse_to_start_over,
)
from training.run.lock import lock_run
from training.run.options import change_options, session_options
from training.run.options_file import OPTIONS_FILE, read_options, write_options
from training.run.photographs import compare_source, is_prepared
from training.run.prepared_run import PreparedRun
from training.run.roles import check_class_names
from training.run.run_summary import describe_run
from training.run.settings import TrainingSettings
from training.run.status import read_status
from training.run.stored_options import check_dataset_class, check_options
from training.run.time_plan import flag_to_train_longer, time_name


def prepare_continuation(flags: Flags) -> PreparedRun:
    """Find a run, apply the flags that may change, and make sure that it can go on.

    Raises:
        UserError: The run cannot be continued; one line says why and what to do.
    """
    assert flags.continue_run is not None
    run_dir = find_run_dir(flags.continue_run, flags.outdir)
    check_files(run_dir)
    state = find_state(run_dir)
    if state is RunState.RUNNING:
        with lock_run(run_dir):  # raises the error
            pass
    stored = _read_stored(run_dir, flags.trust_pickle)
    given = _without_photographs(flags.given, stored)
    kwargs = _with_flags(flags, stored, given)
    if state is RunState.FINISHED and (end := _describe_end(run_dir, stored, kwargs, given)):
        print(end)
        return PreparedRun(run_dir, kwargs, is_new=False, has_work=False)
    if state is not RunState.NEW and not has_checkpoint(run_dir):
        refuse_to_start_over(run_dir)
    _check_length(run_dir, kwargs)
    _check_time(run_dir, stored, kwargs)
    _check_images(run_dir, stored, kwargs, "data" in given, choose_device(flags.device))
    print(f"Continuing {run_dir}")
    if flags.dry_run:
        _require_intact_checkpoint(run_dir)
        print("Dry run: nothing was written.")
        return PreparedRun(run_dir, kwargs, is_new=False, has_work=False)
    if kwargs != stored:  # the next continuation needs no reminder
        with lock_run(run_dir):  # another process may have started the run meanwhile, whose options these would be
            write_options(run_dir, kwargs)
    return PreparedRun(run_dir, {**kwargs, **session_options(flags)}, is_new=False)


def _require_intact_checkpoint(run_dir: Path) -> None:
    """Refuse a run whose checkpoints are all damaged; only a dry run asks, as training looks for itself."""
    if not any(find_damage(path) is None for path in reversed(list_checkpoints(run_dir))):
        refuse_to_start_over(run_dir)


def _read_stored(run_dir: Path, is_trusted: bool) -> dict[str, Any]:
    """Read the options of a run, and check all that can be checked without the images."""
    stored = read_options(run_dir)
    where = str(run_dir / OPTIONS_FILE)
    check_options(stored, where)
    check_class_names(stored, where, is_trusted)
    check_dataset_class(stored["training_set_kwargs"]["class_name"], where)
    check_argument_types(stored, where)
    check_constructors(stored, where)
    return stored


def _without_photographs(given: Mapping[str, Any], stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out ``--data`` if it names the photographs from which the run's dataset was prepared."""
    path, data = str(stored["training_set_kwargs"].get("path")), str(given.get("data"))
    if "data" not in given:
        return given
    origin = compare_source(path, data)
    if not origin.is_source:
        return given
    if origin.has_changed:
        print(
            f"Note: the photographs in {data} have changed; the run goes on with {path}, which was prepared before. "
            "A new run would use the new ones"
        )
    return {name: value for name, value in given.items() if name != "data"}


def _with_flags(flags: Flags, stored: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with the flags given now, and warn of those without effect."""
    preflight.check_metrics(given.get("metrics", ()), given.get("object_detector"))
    kwargs, ignored = change_options(stored, given)
    check_options(kwargs, preflight.INVALID_FLAGS)
    if flags.outdir is not None and flags.continue_run != "latest":
        ignored.append("--outdir")
    if ignored:
        print(f"Warning: no effect on a run that is continued: {', '.join(ignored)}")
    return kwargs


def _describe_end(
    run_dir: Path, stored: dict[str, Any], kwargs: dict[str, Any], given: Mapping[str, Any]
) -> str | None:
    """Say that a finished run stays finished, and which flags make it longer; None if those given now do."""
    done_kimg, spent_sec = read_status(run_dir).get("kimg", 0), read_spent_sec(run_dir)
    limit_sec, old_limit_sec = kwargs.get("time_limit_sec"), stored.get("time_limit_sec")
    if old_limit_sec is not None and done_kimg < stored["total_kimg"] and limit_sec <= old_limit_sec:
        reached = f"{done_kimg:g} kimg in {time_name(old_limit_sec)}"
        flags = [flag_to_train_longer(done_kimg, stored["total_kimg"], old_limit_sec, spent_sec)]
    elif done_kimg >= kwargs["total_kimg"]:
        reached = f"{done_kimg:g} of {kwargs['total_kimg']:g} kimg"
        flags = [flag_to_train_longer(done_kimg, kwargs["total_kimg"], None)]
        if "time" in given and limit_sec is not None:
            flags.append(f"--time={time_name(limit_sec)}")
    else:
        return None
    how = how_to_run("train.py", f"--continue={run_dir}", *flags)
    return f"{run_dir} is finished: {reached}. To train it further: {how}"


def _check_length(run_dir: Path, kwargs: Mapping[str, Any]) -> None:
    """Refuse a length that the run has reached; if it was killed at its very end, that end is still to be written."""
    nimg, total_kimg = saved_nimg(run_dir), kwargs["total_kimg"]
    is_stopped = read_status(run_dir).get("reason") == "stopped"
    if nimg >= total_kimg * 1000 + (0 if is_stopped else kwargs["batch_size"]):
        raise UserError(
            f"{run_dir} has done {nimg / 1000:g} kimg, no less than its new length of {total_kimg:g}: "
            "give a larger --kimg"
        )


def _check_time(run_dir: Path, stored: Mapping[str, Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse a new time that the run has spent; if it was killed at the old one, its end is still to be written."""
    limit_sec, spent_sec = kwargs.get("time_limit_sec"), read_spent_sec(run_dir)
    if limit_sec is not None and limit_sec != stored.get("time_limit_sec") and limit_sec <= spent_sec:
        raise UserError(
            f"{run_dir} has trained for {time_name(math.ceil(spent_sec))}, no less than its new time of "
            f"{time_name(limit_sec)}: give a larger --time"
        )


def _check_images(
    run_dir: Path, stored: dict[str, Any], kwargs: dict[str, Any], is_moved: bool, device: torch.device
) -> None:
    """Open the images and print a summary of the run; both may fail for edited options, or for the flags given now."""
    data = kwargs["training_set_kwargs"]
    try:
        hint = "if it was moved, give its place by --data"
        dataset = inspect_dataset(data["path"], bool(data.get("use_labels")), hint)
        preflight.check_metric_set(TrainingSettings(**kwargs), dataset.label_dim)
        _check_same_size(data, dataset)
        if is_moved:
            _check_same_images(run_dir, data["path"], stored["training_set_kwargs"].get("path"))
        print(describe_run(TrainingSettings(**kwargs), dataset, run_dir, device))
    except UserError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        where = f"{run_dir / OPTIONS_FILE}{'' if kwargs == stored else ' with the flags given now'}"
        raise UserError(f"{where} cannot be used: {type(error).__name__}: {str(error)[:200]!a}") from error


def _check_same_size(settings: dict[str, Any], dataset: DatasetInfo) -> None:
    """Compare the number of images with that at the beginning; training compares their names and checksums too."""
    num_before = settings.get("max_size") or dataset.num_images
    is_subset = "random_seed" in settings
    if dataset.num_images != num_before and not (is_subset and dataset.num_images > num_before):
        raise UserError(
            f"{settings['path']} has {plural(dataset.num_images, 'image')}, but the run began with {num_before}: "
            "restore them, or start a new run with --resume for the new ones"
        )


def _check_same_images(run_dir: Path, path: str, before: Any) -> None:
    """Compare images in another place with those that the newest checkpoint describes, before anything is written."""
    described = next(map(read_dataset_record, reversed(list_checkpoints(run_dir))), {})
    dataset = ImageFolderDataset(path=path)
    is_same = is_unchanged(dataset.archive, described)
    dataset.close()
    if not is_same:
        advice = "leave out --data, for these were prepared from photographs" if is_prepared(str(before)) else ""
        raise UserError(
            f"--data={path} holds other images than the run began with, in {before}: {advice or 'give their place'}, "
            "or start a new run with --resume for the new ones"
        )
