"""From a request on the command line to training processes: which run, where, on what devices."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dnnlib.util import Logger, UserError
from metrics import metric_main
from torch_utils import distributed
from torch_utils.device import choose_device
from torch_utils.distributed import World
from torch_utils.host_memory import keep_freed_memory
from training.continuation import gather
from training.dataset import ImageFolderDataset
from training.run.folder import find_run_dir, make_run_dir, read_options, write_options
from training.run.options import DatasetInfo, Flags, resolve
from training.run.preflight import describe_resources
from training.training_loop import EXIT_STATUS, training_loop


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
    """Arguments of the training loop that may change when a run is continued."""
    kimg: int | None
    """New length of a run that is continued, or None."""
    is_dry_run: bool
    unused_flags: tuple[str, ...] = ()
    """What was given on the command line but cannot change a run that is continued."""


def train_run(request: RunRequest) -> bool:
    """Do what was asked, in the processes that torchrun started or in new ones on this machine.

    Returns:
        True if training is complete (or was only tried), False if it was stopped and can be continued.

    Raises:
        UserError: The request cannot be fulfilled; one line says why and what to do.
    """
    world = distributed.world_from_env()
    if world is None or world.world_size == 1:
        if request.flags is not None:  # before a folder is made
            choose_device(request.device, request.flags.gpus, local_rank=request.flags.gpus - 1)
        run_dir, kwargs = prepare_run(request)
        return request.is_dry_run or _launch(run_dir, kwargs, request.device)
    device = choose_device(request.device, world.world_size, world.local_rank)
    distributed.init_world(world.rank, world.world_size, device)
    try:
        if request.flags is not None:
            request = replace(request, flags=replace(request.flags, gpus=world.world_size))
        prepared = _prepare_or_explain(request) if world.rank == 0 else None
        run_dir, kwargs, problem = gather(prepared, world.world_size)[0]
        if problem is not None:
            raise UserError(problem)
        if kwargs["num_gpus"] != world.world_size:
            raise UserError(f"{run_dir} is of {kwargs['num_gpus']} processes, got {world.world_size}; start as many")
        return request.is_dry_run or _train(world, run_dir, kwargs, device)
    finally:
        distributed.leave_world()


def prepare_run(request: RunRequest) -> tuple[Path, dict[str, Any]]:
    """Find or make the run folder, and the arguments of the training loop.

    Raises:
        UserError: As in `train_run`.
    """
    if request.continue_run is not None:
        run_dir = find_run_dir(request.continue_run, request.outdir)
        kwargs = read_options(run_dir)
        if request.kimg is not None:
            kwargs["total_kimg"] = request.kimg
        print(f"Continuing {run_dir} with the options it began with")
        if request.unused_flags:
            print(f"Warning: no effect on a run that is continued: {', '.join(request.unused_flags)}")
        return run_dir, {**kwargs, **request.runtime}
    if request.flags is None or request.outdir is None:
        raise UserError("a new run needs --outdir and --data; --continue=RUN goes on with an old one")
    flags = request.flags
    dataset = _inspect(flags)
    _check_metrics(flags)
    try:
        description, kwargs = resolve(flags, dataset)
        resources = describe_resources(kwargs, dataset, request.outdir, choose_device(request.device))
    except ValueError as error:
        raise UserError(str(error)) from error
    print("Training options:")
    print(json.dumps(kwargs, indent=2))
    print(resources)
    if request.is_dry_run:
        print("Dry run: nothing was written.")
        return request.outdir, kwargs
    run_dir = make_run_dir(request.outdir, description)
    write_options(run_dir, kwargs)
    print(f"Run folder: {run_dir}")
    return run_dir, {**kwargs, **request.runtime}


def _prepare_or_explain(request: RunRequest) -> tuple[Path, dict[str, Any], str | None]:
    """`prepare_run` for rank 0: the other processes must hear of a problem too."""
    try:
        return *prepare_run(request), None
    except UserError as error:
        return Path(), {}, str(error)


def _inspect(flags: Flags) -> DatasetInfo:
    dataset = ImageFolderDataset(path=flags.data, use_labels=True)
    info = DatasetInfo(dataset.name, dataset.resolution, len(dataset), dataset.has_labels)
    dataset.close()
    return info


def _check_metrics(flags: Flags) -> None:
    for metric in flags.metrics:
        if not metric_main.is_valid_metric(metric):
            known = ", ".join(metric_main.list_valid_metrics())
            raise UserError(f"--metrics: there is no metric {metric!r}; known are {known}, or none")


def _launch(run_dir: Path, kwargs: dict[str, Any], device: str) -> bool:
    (run_dir / EXIT_STATUS).unlink(missing_ok=True)
    process = functools.partial(_train_process, run_dir=run_dir, kwargs=kwargs, device=device)
    distributed.launch(process, kwargs["num_gpus"])
    status = run_dir / EXIT_STATUS
    return status.is_file() and json.loads(status.read_text())["reason"] == "finished"


def _train_process(world: World, init_method: str, run_dir: Path, kwargs: dict[str, Any], device: str) -> None:
    process_device = choose_device(device, world.world_size, world.local_rank)
    distributed.init_world(world.rank, world.world_size, process_device, init_method)
    _train(world, run_dir, kwargs, process_device)


def _train(world: World, run_dir: Path, kwargs: dict[str, Any], device: torch.device) -> bool:
    if device.type == "cpu":
        keep_freed_memory()
    log_file = run_dir / "log.txt" if world.rank == 0 else None
    with Logger(log_file, file_mode="a", should_flush=True):
        is_finished = training_loop(run_dir=str(run_dir), rank=world.rank, device=device, **kwargs)
        if not is_finished and world.rank == 0:
            print(f"Stopped; to go on: python train.py --continue={run_dir}")
        return is_finished
