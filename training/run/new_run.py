"""Preparing a new run: its images, its options and its folder."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from dnnlib.errors import UserError
from dnnlib.flags import about
from torch_utils.device import choose_device
from training.data.layout import UnequalImagesError
from training.run import preflight
from training.run.choice import choose_for_cpu, describe_choice
from training.run.dataset_info import DatasetInfo, inspect_dataset
from training.run.description import describe_flags
from training.run.flags import Flags
from training.run.folder import existing_parent, make_run_dir
from training.run.lookup import LATEST, find_network, require_network
from training.run.options import NO_RESUME, RESUME_SOURCES, resolve, session_options
from training.run.options_file import OPTIONS_FILE, write_options
from training.run.photographs import PhotographFlags, describe_photographs, prepare_photographs
from training.run.prepared_run import PreparedRun
from training.run.run_summary import describe_run
from training.run.settings import TrainingSettings
from training.run.stored_options import check_options

RESUME_NAMES = (LATEST, NO_RESUME, *RESUME_SOURCES)
"""What ``--resume`` may be besides a path or a URL."""


def prepare_new_run(flags: Flags) -> PreparedRun:
    """Check everything that a new run needs, then make its folder; a dry run makes none.

    Raises:
        UserError: The run cannot be started; one line says why and what to do.
    """
    data, outdir = _checked_places(flags)
    if flags.resume is not None:
        flags = replace(flags, resume=_find_snapshot(flags.resume))
    preflight.check_metrics(flags.metrics, flags.object_detector)
    with about("--data"):
        data, dataset = _find_dataset(flags, data, outdir)
    description, kwargs, summary = _resolve(replace(flags, data=data), dataset, outdir)
    if flags.dry_run:
        print("Training options:")
        print(json.dumps(kwargs, indent=2))
        print(summary)
        for line in preflight.try_transfer(TrainingSettings(**kwargs), dataset, flags.trust_pickle):
            print(line)
        print("Dry run: nothing was written.")
        return PreparedRun(outdir, kwargs, is_new=True, has_work=False)
    print(summary)
    run_dir = _make_run_dir(outdir, description, kwargs)
    print(f"Run folder: {run_dir} (options in {run_dir / OPTIONS_FILE})")
    return PreparedRun(run_dir, {**kwargs, **session_options(flags)}, is_new=True)


def _checked_places(flags: Flags) -> tuple[str, Path]:
    """Return ``--data`` and ``--outdir``, checked together with ``--metricdata`` as far as nothing need be opened."""
    data, outdir = flags.data, flags.outdir
    if data is None or outdir is None:
        raise UserError("a new run needs --outdir and --data; --continue=RUN continues an old one")
    if not data:
        raise UserError("--data is empty: give a folder or zip of images")
    _check_outdir(outdir)
    for flag, path in (("--data", data), ("--metricdata", flags.metricdata)):
        _check_outside(outdir, flag, path)
    if flags.metricdata is not None and not Path(flags.metricdata).exists():
        raise UserError(f"--metricdata={flags.metricdata}: no such file or folder; give a folder or zip of images")
    return data, outdir


def _make_run_dir(outdir: Path, description: str, kwargs: dict[str, Any]) -> Path:
    """Make a run folder that holds its options; without them there is none."""
    run_dir = make_run_dir(outdir, description)
    try:
        write_options(run_dir, kwargs)
    except UserError:
        shutil.rmtree(run_dir, ignore_errors=True)
        raise
    return run_dir


def _check_outdir(outdir: Path) -> None:
    """Make sure, as far as that can be known beforehand, that a run folder can be made; a dry run makes none."""
    parent = existing_parent(outdir)
    if not parent.is_dir():
        raise UserError(f"--outdir={outdir}: Not a directory; choose a folder that can be written to")
    if not os.access(parent, os.W_OK):
        raise UserError(f"--outdir={outdir}: Permission denied; choose a folder that can be written to")


def _check_outside(outdir: Path, flag: str, path: str | None) -> None:
    """Refuse run folders among images: the samples of a run would become part of the dataset."""
    if path and Path(path).is_dir() and outdir.resolve().is_relative_to(Path(path).resolve()):
        raise UserError(
            f"--outdir={outdir} is inside {flag}={path}, so generated images would join that dataset; "
            "choose another folder"
        )


def _find_dataset(flags: Flags, data: str, outdir: Path) -> tuple[str, DatasetInfo]:
    """Open the dataset, which may have to be prepared from photographs first; returns its place, too."""
    photographs = None if flags.size is None else PhotographFlags(flags.size, flags.transform)
    if photographs is None or _is_prepared(data, photographs, flags.cond):
        data = str(Path(data).absolute())
        try:
            return data, inspect_dataset(data, flags.cond)
        except UnequalImagesError as error:
            raise UserError(f"{error}; or add --size={error.side_px}, and they are prepared first") from error
    if flags.dry_run or flags.cond:
        described = describe_photographs(data, photographs, flags.cond)
        if flags.cond and not described.has_labels:  # now: preparing them may take many minutes
            raise UserError(
                f"--cond=1 needs labels, but {data} has neither folders of classes nor a dataset.json with labels: "
                "move the images of each class into a folder of its own, or use --cond=0"
            )
        if flags.dry_run:
            return data, described
    data = str(prepare_photographs(data, photographs, flags.cond, outdir))
    return data, inspect_dataset(data, flags.cond)


def _is_prepared(data: str, photographs: PhotographFlags, use_labels: bool) -> bool:
    """Return whether the images are a dataset of the wanted size already, and with labels if they are asked for."""
    try:
        dataset = inspect_dataset(data, False)
    except UserError:
        return False
    return dataset.resolution == photographs.size_px and (dataset.has_labels or not use_labels)


def _resolve(flags: Flags, dataset: DatasetInfo, outdir: Path) -> tuple[str, dict[str, Any], str]:
    """Check the flags, and print what is chosen for a CPU.

    Returns:
        Description for the name of the run folder, arguments of the training loop, and their summary.
    """
    device = choose_device(flags.device)
    try:
        chosen = choose_for_cpu(flags, device)
        kwargs, description = resolve(chosen, dataset), describe_flags(chosen, dataset)
        settings = _checked_settings(kwargs, dataset)
        for line in describe_choice(flags, chosen, dataset, device):
            print(line)
        return description, kwargs, describe_run(settings, dataset, outdir, device)
    except ArithmeticError as error:
        raise UserError(f"{preflight.INVALID_FLAGS}: {error}; is a number such as --kimg or --tick extreme?") from error
    except ValueError as error:
        raise UserError(str(error)) from error


def _checked_settings(kwargs: dict[str, Any], dataset: DatasetInfo) -> TrainingSettings:
    """Refuse what can be refused at once, before estimates that may take a minute."""
    check_options(kwargs, preflight.INVALID_FLAGS)
    settings = TrainingSettings(**kwargs)
    preflight.check_metric_set(settings, dataset.label_dim)
    preflight.check_networks(settings, dataset)
    preflight.check_frozen_layers(settings, dataset)
    return settings


def _find_snapshot(resume: str) -> str:
    require_network(resume, "--resume", names=RESUME_NAMES)
    found = find_network(resume, "--resume")
    if Path(found).is_dir():
        raise UserError(
            f"--resume={resume} is a folder without snapshots; give a snapshot (.pkl) or a run: G needs its D"
        )
    return found
