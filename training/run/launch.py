"""From a request on the command line to training processes: which run, where, on which devices."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from dnnlib.commands import how_to_run
from dnnlib.util import Logger, UserError, construct_class_by_name
from metrics import metric_main
from torch_utils import distributed
from torch_utils.device import choose_device
from torch_utils.distributed import World
from torch_utils.host_memory import keep_freed_memory
from torch_utils.out_of_memory import out_of_memory_means
from training.checkpoint import list_checkpoints, read_dataset_record
from training.data.fingerprint import is_unchanged
from training.data.layout import UnequalImagesError
from training.dataset import ImageFolderDataset
from training.run import preflight
from training.run.choice import choose_for_cpu
from training.run.folder import (
    OPTIONS_FILE,
    RunState,
    check_files,
    find_run_dir,
    find_state,
    has_progress,
    lock_run,
    make_run_dir,
    read_options,
    read_spent_sec,
    read_status,
    refuse_to_start_over,
    saved_nimg,
    write_options,
)
from training.run.latest import find_network
from training.run.memory import out_of_memory_advice
from training.run.options import DatasetInfo, Flags, change_options, resolve
from training.run.photographs import PhotographFlags, describe_photographs, is_dataset_of, prepare_photographs
from training.run.processes import check_num_processes
from training.run.roles import check_class_names
from training.run.settings import check_stored_settings
from training.run.stored_options import check_dataset_class, check_options
from training.run.time_plan import flag_to_train_longer, time_name
from training.run.wandb_run import check_wandb
from training.training_loop import training_loop

OF_FLAGS = "the flags ask for what cannot be trained"


@dataclass(frozen=True)
class RunRequest:
    """What the user asks of ``train.py``."""

    outdir: Path | None
    continue_run: str | None
    """Run folder or 'latest'; None for a new run."""
    flags: Flags | None
    """For a new run; None if ``--data`` is missing."""
    device: str
    """'auto', 'cuda', 'cpu' or 'mps'."""
    runtime: dict[str, Any]
    """Arguments of the training loop that are not stored with the run."""
    is_dry_run: bool
    photographs: PhotographFlags | None = None
    """How the images of a new run are prepared first; None to train on them as they are."""
    chooses: bool = False
    """Whether to choose a configuration that suits a machine without a GPU, if the flags choose none."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """Values of the flags on the command line, by parameter name, as far as a continued run is concerned."""


@dataclass(frozen=True)
class Plan:
    """A run that is ready to start."""

    run_dir: Path
    kwargs: dict[str, Any]
    """Arguments of the training loop."""
    is_new: bool
    has_work: bool = True
    """False for a dry run, and for a run that is already finished."""


def train_run(request: RunRequest) -> bool:
    """Do what was asked, in the processes that torchrun started or in new ones on this machine.

    Returns:
        True if training is complete (or was only tried), False if it was stopped and can be continued.

    Raises:
        UserError: The request cannot be fulfilled; one line says why and what to do.
    """
    if request.runtime.get("log") == "wandb":
        check_wandb()
    world = distributed.world_from_env()
    if world is None or world.world_size == 1:
        if request.flags is not None:  # before a folder is made
            check_num_processes(request.device, request.flags.gpus)
        plan = prepare_run(request)
        if not plan.has_work:
            return True
        check_num_processes(request.device, plan.kwargs["num_gpus"])
        return _launch(plan, request.device)
    device = choose_device(request.device, world.world_size, world.local_rank)
    distributed.init_world(world.rank, world.world_size, device)
    try:
        if request.flags is not None:
            request = replace(request, flags=replace(request.flags, gpus=world.world_size))
        plan = _prepare_together(request, world)
        return not plan.has_work or _train(world, plan, device)
    finally:
        distributed.leave_world()


def _prepare_together(request: RunRequest, world: World) -> Plan:
    """Prepare on rank 0; the other processes must learn of a problem too."""
    plan, problem = None, None
    if world.rank == 0:
        try:
            plan = prepare_run(request)
        except UserError as error:
            problem = str(error)
    plan, problem = distributed.from_rank0((plan, problem))
    if plan is None:
        raise UserError(problem)
    if plan.kwargs["num_gpus"] != world.world_size:
        raise UserError(
            f"{plan.run_dir} is a run of {plan.kwargs['num_gpus']} processes, got {world.world_size}; start as many"
        )
    return plan


def prepare_run(request: RunRequest) -> Plan:
    """Find or make the run folder, and the arguments of the training loop.

    Raises:
        UserError: As in `train_run`.
    """
    check_stored_settings({"state_interval_sec": request.runtime.get("state_interval_sec", 0)}, "--state-minutes")
    if request.continue_run is not None:
        return _prepare_continuation(request)
    if request.flags is None or request.outdir is None:
        raise UserError("a new run needs --outdir and --data; --continue=RUN continues an old one")
    if not request.flags.data:
        raise UserError("--data is empty: give a folder or zip of images")
    _check_outdir(request.outdir)
    for flag, path in (("--data", request.flags.data), ("--metricdata", request.flags.metricdata)):
        _check_outside(request.outdir, flag, path)
    _check_metrics(request.flags.metrics)
    flags, dataset = _find_dataset(request, request.flags)
    try:
        if request.chooses:
            flags, lines = choose_for_cpu(flags, dataset, choose_device(request.device))
            print("".join(f"{line}\n" for line in lines), end="")
        if flags.resume is not None:
            flags = replace(flags, resume=_find_snapshot(flags.resume))
        description, kwargs = resolve(flags, dataset)
        check_options(kwargs, OF_FLAGS)
        _check_metric_set(kwargs)
        resources = preflight.describe_run(kwargs, dataset, request.outdir, choose_device(request.device))
    except ArithmeticError as error:
        raise UserError(f"{OF_FLAGS}: {error}; is a number such as --kimg or --tick extreme?") from error
    except ValueError as error:
        raise UserError(str(error)) from error
    if request.is_dry_run:
        print("Training options:")
        print(json.dumps(kwargs, indent=2))
        print(resources)
        _check_resume(kwargs, dataset, request)
        print("Dry run: nothing was written.")
        return Plan(request.outdir, kwargs, is_new=True, has_work=False)
    print(resources)
    run_dir = make_run_dir(request.outdir, description)
    try:
        _write_options(run_dir, kwargs)
    except UserError:
        shutil.rmtree(run_dir, ignore_errors=True)
        raise
    print(f"Run folder: {run_dir} (options in {run_dir / OPTIONS_FILE})")
    return Plan(run_dir, {**kwargs, **request.runtime}, is_new=True)


def _find_snapshot(resume: str) -> str:
    found = find_network(resume, "--resume")
    if Path(found).is_dir():
        raise UserError(
            f"--resume={resume} is a folder without snapshots; give a snapshot (.pkl) or a run: G needs its D"
        )
    return found


def _find_dataset(request: RunRequest, flags: Flags) -> tuple[Flags, DatasetInfo]:
    """Open the dataset of a new run, which may have to be prepared from photographs first."""
    assert request.outdir is not None
    if request.photographs is None or _is_prepared(flags, request.photographs):
        flags = replace(flags, data=str(Path(flags.data).absolute()))
        try:
            return flags, inspect_dataset(flags.data, flags.cond)
        except UnequalImagesError as error:
            raise UserError(f"{error}; or add --size={error.side_px}, and they are prepared first") from error
    if request.is_dry_run:
        return flags, describe_photographs(flags.data, request.photographs, flags.cond)
    data = prepare_photographs(flags.data, request.photographs, flags.cond, request.outdir)
    return replace(flags, data=str(data)), inspect_dataset(str(data), flags.cond)


def _is_prepared(flags: Flags, photographs: PhotographFlags) -> bool:
    """Whether the images are a dataset of the wanted size already, and with labels if they are asked for."""
    try:
        dataset = inspect_dataset(flags.data, False)
    except UserError:
        return False
    return dataset.resolution == photographs.size_px and (dataset.has_labels or not flags.cond)


def _check_outdir(outdir: Path) -> None:
    """Make sure, as far as that can be known beforehand, that a run folder can be made; a dry run makes none."""
    parent = preflight.existing_parent(outdir)
    if not parent.is_dir():
        raise UserError(f"--outdir={outdir}: Not a directory; choose a folder that can be written to")
    if not os.access(parent, os.W_OK):
        raise UserError(f"--outdir={outdir}: Permission denied; choose a folder that can be written to")


def _check_outside(outdir: Path, flag: str, path: str | None) -> None:
    """Refuse run folders among images: the pictures of a run would become part of the dataset."""
    if path and Path(path).is_dir() and outdir.resolve().is_relative_to(Path(path).resolve()):
        raise UserError(
            f"--outdir={outdir} lies in {flag}={path}, to whose images it would add its own; choose another"
        )


def _prepare_continuation(request: RunRequest) -> Plan:
    assert request.continue_run is not None
    run_dir = find_run_dir(request.continue_run, request.outdir)
    check_files(run_dir)
    state = find_state(run_dir)
    if state is RunState.RUNNING:
        with lock_run(run_dir):  # raises the error
            pass
    kwargs = read_options(run_dir)
    options_file = str(run_dir / OPTIONS_FILE)
    check_options(kwargs, options_file)
    check_class_names(kwargs, options_file, request.runtime.get("trust_pickle", False))
    check_dataset_class(kwargs["training_set_kwargs"]["class_name"], options_file)
    _check_metrics(request.given.get("metrics", ()))
    given = dict(request.given)
    if "data" in given and is_dataset_of(str(kwargs["training_set_kwargs"].get("path")), str(given["data"])):
        del given["data"]  # photographs, whose dataset the run goes on with
    began_with, (kwargs, ignored) = kwargs, change_options(kwargs, given)
    check_options(kwargs, OF_FLAGS)
    _check_metric_set(kwargs)
    if request.outdir is not None and request.continue_run != "latest":
        ignored.append("--outdir")
    if ignored:
        print(f"Warning: no effect on a run that is continued: {', '.join(ignored)}")
    done_kimg = read_status(run_dir).get("kimg", 0)
    spent_sec = read_spent_sec(run_dir)
    if state is RunState.FINISHED and (end := _end_of_finished(began_with, kwargs, given, done_kimg, spent_sec)):
        how = how_to_run("train.py", f"--continue={run_dir}", *end[1])
        print(f"{run_dir} is finished: {end[0]}. To train it further: {how}")
        return Plan(run_dir, kwargs, is_new=False, has_work=False)
    if state is RunState.DAMAGED:
        refuse_to_start_over(run_dir)
    _check_length(run_dir, kwargs, done_kimg)
    if kwargs.get("time_limit_sec") != began_with.get("time_limit_sec"):
        _check_time(run_dir, kwargs["time_limit_sec"], spent_sec)
    _check_continuation(run_dir, began_with, kwargs, "data" in given, choose_device(request.device))
    print(f"Continuing {run_dir}")
    if request.is_dry_run:
        print("Dry run: nothing was written.")
        return Plan(run_dir, kwargs, is_new=False, has_work=False)
    if kwargs != began_with:  # the next continuation is to need no reminder
        with lock_run(run_dir):  # not those of a run that another process has started meanwhile
            _write_options(run_dir, kwargs)
    return Plan(run_dir, {**kwargs, **request.runtime}, is_new=False)


def _check_continuation(
    run_dir: Path, began_with: dict[str, Any], kwargs: dict[str, Any], is_moved: bool, device: torch.device
) -> None:
    """Open the images and describe what is to come; both may fail for values in an edited file, or of the flags."""
    data = kwargs["training_set_kwargs"]
    try:
        hint = "if it was moved, give its place by --data"
        dataset = inspect_dataset(data["path"], bool(data.get("use_labels")), hint)
        _check_same_size(data, dataset)
        if is_moved:
            _check_same_images(run_dir, data["path"], began_with["training_set_kwargs"].get("path"))
        print(preflight.describe_run(kwargs, dataset, run_dir, device))
    except UserError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        where = f"{run_dir / OPTIONS_FILE}{'' if kwargs == began_with else ' with the flags given now'}"
        raise UserError(f"{where} cannot be used: {type(error).__name__}: {str(error)[:200]!a}") from error


def _check_length(run_dir: Path, kwargs: Mapping[str, Any], done_kimg: float) -> None:
    """Refuse a length that was reached before; a run that was killed at its very end still has things to write."""
    nimg = saved_nimg(run_dir)
    is_stopped = read_status(run_dir).get("reason") == "stopped" and done_kimg >= kwargs["total_kimg"]
    if is_stopped or nimg >= kwargs["total_kimg"] * 1000 + kwargs["batch_size"]:
        raise UserError(
            f"{run_dir} has done {max(done_kimg, nimg / 1000):g} kimg, no less than its new length of "
            f"{kwargs['total_kimg']:g}: give a larger --kimg"
        )


def _check_time(run_dir: Path, limit_sec: float, spent_sec: float) -> None:
    """Refuse a new time that was spent before; at the old one a run that was killed still has things to write."""
    if limit_sec <= spent_sec:
        raise UserError(
            f"{run_dir} has trained for {time_name(math.ceil(spent_sec))}, no less than its new time of "
            f"{time_name(limit_sec)}: give a larger --time"
        )


def _end_of_finished(
    began_with: dict[str, Any], kwargs: dict[str, Any], given: Mapping[str, Any], done_kimg: float, spent_sec: float
) -> tuple[str, list[str]] | None:
    """Say how far a finished run has come, and which flags make it longer; None if those given now do."""
    limit_sec, old_limit_sec = kwargs.get("time_limit_sec"), began_with.get("time_limit_sec")
    if old_limit_sec is not None and done_kimg < began_with["total_kimg"] and limit_sec <= old_limit_sec:
        longer = flag_to_train_longer(done_kimg, began_with["total_kimg"], old_limit_sec, spent_sec)
        return f"{done_kimg:g} kimg in {time_name(old_limit_sec)}", [longer]
    if done_kimg < kwargs["total_kimg"]:
        return None
    flags = [flag_to_train_longer(done_kimg, kwargs["total_kimg"], None)]
    if "time" in given and limit_sec is not None:
        flags.append(f"--time={time_name(limit_sec)}")
    return f"{done_kimg:g} of {kwargs['total_kimg']:g} kimg", flags


def _write_options(run_dir: Path, kwargs: dict[str, Any]) -> None:
    try:
        write_options(run_dir, kwargs)
    except OSError as error:
        raise UserError(f"{run_dir} cannot be written to: {error.strerror or error}") from error


def _check_same_size(settings: dict[str, Any], dataset: DatasetInfo) -> None:
    """Compare the number of images with that at the beginning; training compares their names and checksums too."""
    num_before = settings.get("max_size") or dataset.num_images
    is_subset = "random_seed" in settings
    if dataset.num_images != num_before and not (is_subset and dataset.num_images > num_before):
        raise UserError(
            f"{settings['path']} has {dataset.num_images} images, but the run began with {num_before}: restore them, "
            "or start a new run with --resume for the new ones"
        )


def _check_same_images(run_dir: Path, path: str, before: Any) -> None:
    """Compare images in another place with those that the newest checkpoint describes, before anything is written."""
    described = next(map(read_dataset_record, reversed(list_checkpoints(run_dir))), {})
    dataset = ImageFolderDataset(path=path)
    is_same = is_unchanged(dataset.archive, described)
    dataset.close()
    if not is_same:
        raise UserError(
            f"--data={path} holds other images than the run began with, in {before}: give their place, or start a new "
            "run with --resume for the new ones"
        )


def inspect_dataset(path: str, use_labels: bool, hint: str | None = None) -> DatasetInfo:
    """Open a dataset and describe what the options depend on; labels are read only if they are used.

    Raises:
        UserError: It cannot be trained on; the line ends with ``hint``.
    """
    try:
        dataset = ImageFolderDataset(path=path, use_labels=use_labels)
        info = DatasetInfo(
            name=dataset.name,
            resolution=dataset.resolution,
            num_images=len(dataset),
            has_labels=dataset.has_labels,
            label_dim=dataset.label_dim,
            num_channels=dataset.num_channels,
            label_summary=dataset.label_summary,
        )
    except UserError as error:
        if hint is None:
            raise
        raise UserError(f"{error}; {hint}") from error
    dataset.close()
    return info


def _check_metrics(metrics: tuple[str, ...]) -> None:
    for metric in metrics:
        if not metric_main.is_valid_metric(metric):
            known = ", ".join(metric_main.list_valid_metrics())
            raise UserError(f"--metrics: there is no metric {metric[:100]!a}; choose from {known}, or none")


def _check_metric_set(kwargs: dict[str, Any]) -> None:
    """Open the images that metrics compare with: now, not in mid-training."""
    if kwargs.get("metric_set_kwargs"):
        try:
            construct_class_by_name(**kwargs["metric_set_kwargs"]).close()
        except UserError as error:
            raise UserError(f"--metricdata: {error}") from error


def _check_resume(kwargs: dict[str, Any], dataset: DatasetInfo, request: RunRequest) -> None:
    if "resume_pkl" in kwargs:
        for line in preflight.try_transfer(kwargs, dataset, request.runtime.get("trust_pickle", False)):
            print(line)


def _launch(plan: Plan, device: str) -> bool:
    process = functools.partial(_train_process, plan=plan, device=device)
    try:
        distributed.launch(process, plan.kwargs["num_gpus"])
    except (UserError, KeyboardInterrupt) as error:
        if plan.is_new and not has_progress(plan.run_dir):
            shutil.rmtree(plan.run_dir, ignore_errors=True)  # nothing has happened there
            raise
        if isinstance(error, UserError):
            raise
        how = how_to_run("train.py", f"--continue={plan.run_dir}")
        print(f"Interrupted; to continue from the last checkpoint: {how}")
        return False
    return read_status(plan.run_dir).get("reason") == "finished"


def _train_process(world: World, init_method: str, plan: Plan, device: str) -> None:
    process_device = choose_device(device, world.world_size, world.local_rank)
    distributed.init_world(world.rank, world.world_size, process_device, init_method)
    _train(world, plan, process_device)


def _train(world: World, plan: Plan, device: torch.device) -> bool:
    if device.type == "cpu":
        keep_freed_memory()
    log_file = plan.run_dir / "log.txt" if world.rank == 0 else None
    with _files_of(plan.run_dir), Logger(log_file, file_mode="a", should_flush=True) as logger:
        logger.write_to_file(f"Training options:\n{json.dumps(plan.kwargs, indent=2)}\n")
        with out_of_memory_means(out_of_memory_advice(plan.kwargs, plan.run_dir)):
            is_finished = training_loop(run_dir=str(plan.run_dir), rank=world.rank, device=device, **plan.kwargs)
        if world.rank == 0:
            print(_closing_line(plan, is_finished))
        return is_finished


@contextlib.contextmanager
def _files_of(run_dir: Path) -> Iterator[None]:
    """What must be read or written for training to go on, and cannot be, is the user's to mend."""
    try:
        yield
    except OSError as error:
        where = ascii(str(error.filename or run_dir))[1:-1]
        raise UserError(f"training cannot go on: {where}: {error.strerror or error}; mend that and continue") from error


def _closing_line(plan: Plan, is_finished: bool) -> str:
    run_dir = plan.run_dir
    if not is_finished:
        return f"Stopped; to continue: {how_to_run('train.py', f'--continue={run_dir}')}"
    snapshot = max(run_dir.glob("network-snapshot-[0-9]*.pkl"), default=None)
    line = f"Finished. Run folder: {run_dir}"
    if snapshot is None:
        return line
    label = ["--class=0"] if plan.kwargs["training_set_kwargs"].get("use_labels") else []
    how = how_to_run("generate.py", f"--network={snapshot}", "--seeds=0-35", *label, "--grid", "--outdir=out")
    return f"{line}\nTo draw images: {how}"
