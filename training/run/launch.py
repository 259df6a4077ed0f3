"""From flags to training processes: which run, where, on which devices."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch

from dnnlib.commands import how_to_run
from dnnlib.errors import UserError
from dnnlib.formatting import plural, printable
from dnnlib.logger import Logger
from torch_utils import distributed
from torch_utils.device import choose_device
from torch_utils.distributed import PEER_LOST
from torch_utils.host_memory import keep_freed_memory
from torch_utils.launch import ProcessError, World, launch, world_from_env
from torch_utils.out_of_memory import out_of_memory_means
from training.checkpoint_names import has_checkpoint
from training.run.continuation import prepare_continuation
from training.run.flags import Flags
from training.run.folder import has_progress
from training.run.lock import is_locked
from training.run.lookup import generate_command
from training.run.memory import out_of_memory_advice
from training.run.names import newest_snapshot
from training.run.new_run import prepare_new_run
from training.run.prepared_run import PreparedRun
from training.run.processes import check_num_processes
from training.run.settings import TrainingSettings, check_stored_settings
from training.run.status import read_status, write_status
from training.run.wandb_run import check_wandb
from training.training_loop import training_loop


def train_run(flags: Flags) -> bool:
    """Do what was asked, in the processes that torchrun started or in new ones on this machine.

    Returns:
        True if training is complete (or was only tried), False if it was stopped and can be continued.

    Raises:
        UserError: The request cannot be fulfilled; one line says why and what to do.
    """
    if flags.log == "wandb":
        check_wandb()
    world = world_from_env()
    if world is None or world.world_size == 1:
        if flags.data is not None:  # before a folder is made
            check_num_processes(flags.device, flags.gpus)
        run = prepare_run(flags)
        if not run.has_work:
            return True
        check_num_processes(flags.device, run.kwargs["num_gpus"])
        return _launch(run, flags.device)
    device = choose_device(flags.device, world.world_size, world.local_rank)
    distributed.init_world(world.rank, world.world_size, device)
    try:
        run = _prepare_together(replace(flags, gpus=world.world_size), world)
        with _way_to_go_on(run.run_dir, world.rank):
            return not run.has_work or _train(world, run, device)
    finally:
        distributed.leave_world()


def _prepare_together(flags: Flags, world: World) -> PreparedRun:
    """Prepare on rank 0; the other processes must learn of a problem too."""
    run, problem = None, None
    if world.rank == 0:
        try:
            run = prepare_run(flags)
        except UserError as error:
            problem = str(error)
    run, problem = distributed.from_rank0((run, problem))
    if run is None:
        raise UserError(problem)
    if run.kwargs["num_gpus"] != world.world_size:
        raise UserError(
            f"{run.run_dir} is a run of {plural(run.kwargs['num_gpus'], 'process')}, got {world.world_size}; "
            f"start {run.kwargs['num_gpus']}"
        )
    return run


def prepare_run(flags: Flags) -> PreparedRun:
    """Find or make the run folder, and the arguments of the training loop.

    Raises:
        UserError: As in `train_run`.
    """
    check_stored_settings({"state_interval_sec": flags.state_minutes * 60}, "--state-minutes")
    return prepare_new_run(flags) if flags.continue_run is None else prepare_continuation(flags)


def _launch(run: PreparedRun, device: str) -> bool:
    process = functools.partial(_train_process, run=run, device=device)
    try:
        with _way_to_go_on(run.run_dir):
            launch(process, run.kwargs["num_gpus"])
        if read_status(run.run_dir).get("reason") == "interrupted":  # several processes end silently
            raise KeyboardInterrupt
    except (UserError, KeyboardInterrupt) as error:
        if run.is_new and not has_progress(run.run_dir):
            shutil.rmtree(run.run_dir, ignore_errors=True)  # nothing has happened there
            raise
        if isinstance(error, UserError):
            raise
        print(f"Interrupted; to continue from the last checkpoint: {_continuing(run.run_dir)}")
        return False
    return read_status(run.run_dir).get("reason") == "finished"


@contextmanager
def _way_to_go_on(run_dir: Path, rank: int = 0) -> Iterator[None]:
    """Say how to continue a run that an error ends after training has begun, unless it would diverge again."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ProcessError):
            _record_death(run_dir, error)
        if rank == 0 and has_checkpoint(run_dir) and read_status(run_dir).get("reason") in ("failed", "unsaved"):
            print(f"Failed; to continue from the last checkpoint: {_continuing(run_dir)}")
        raise


def _record_death(run_dir: Path, error: ProcessError) -> None:
    """Record how a run has ended whose main process has died, and could not do so itself."""
    status = read_status(run_dir)
    if status.get("reason") == "running" and is_locked(run_dir) is False:
        text = str(error).partition("\n")[0]
        with suppress(OSError):
            write_status(run_dir, "failed", status.get("kimg", 0), status.get("total_kimg", 0), error=text)


def _continuing(run_dir: Path) -> str:
    return how_to_run("train.py", f"--continue={run_dir}")


def _train_process(world: World, init_method: str, run: PreparedRun, device: str) -> None:
    process_device = choose_device(device, world.world_size, world.local_rank)
    distributed.init_world(world.rank, world.world_size, process_device, init_method)
    _train(world, run, process_device)


def _train(world: World, run: PreparedRun, device: torch.device) -> bool:
    if device.type == "cpu":
        keep_freed_memory()
    log_file = run.run_dir / "log.txt" if world.rank == 0 else None
    with _errors_in_one_line(run.run_dir), Logger(log_file, file_mode="a", should_flush=True) as logger:
        logger.write_to_file(f"Training options:\n{json.dumps(run.kwargs, indent=2)}\n")
        with out_of_memory_means(out_of_memory_advice(TrainingSettings(**run.kwargs), run.run_dir)):
            is_finished = training_loop(run_dir=str(run.run_dir), rank=world.rank, device=device, **run.kwargs)
        if world.rank == 0:
            print(*_last_warnings(run.run_dir), _closing_line(run, is_finished), sep="\n")
        return is_finished


@contextmanager
def _errors_in_one_line(run_dir: Path) -> Iterator[None]:
    """Tell the user which file cannot be used, or that another process has died, so that training cannot go on."""
    try:
        yield
    except OSError as error:
        where = ascii(str(error.filename or run_dir))[1:-1]
        reason = error.strerror or error
        raise UserError(f"training cannot go on: {where}: {reason}; fix this, then use --continue") from error
    except RuntimeError as error:
        if not distributed.is_peer_lost(error):
            raise
        raise ProcessError(f"{PEER_LOST}; its own error, if it left one, says why") from error


def _last_warnings(run_dir: Path) -> Iterator[str]:
    """Repeat the warnings of the last tick: they were printed when they began, perhaps in an earlier session."""
    health = read_status(run_dir).get("health")
    texts = [warning.get("text") for warning in health if isinstance(warning, dict)] if isinstance(health, list) else []
    yield from (f"Warning at the last tick: {printable(text)}" for text in texts if isinstance(text, str))


def _closing_line(run: PreparedRun, is_finished: bool) -> str:
    run_dir = run.run_dir
    if not is_finished:
        return f"Stopped; to continue: {_continuing(run_dir)}"
    snapshot = newest_snapshot(run_dir)
    line = f"Finished. Run folder: {run_dir}"
    if snapshot is None:
        return line
    has_labels = bool(run.kwargs["training_set_kwargs"].get("use_labels"))
    return f"{line}\nTo draw images: {generate_command(snapshot, has_labels)}"
