"""The training loop: phases on G and D in turn, and what happens between them.

It knows no particular method: networks, loss, augmentation and optimizers come as a ``class_name`` with arguments.
"""

from __future__ import annotations

import copy
import functools
import math
import time
from collections import ChainMap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dnnlib.errors import UserError, describe
from dnnlib.heartbeat import heartbeat
from torch_utils import distributed, misc, training_stats
from torch_utils.rng import GlobalGenerators, seed_everything
from training import checkpoint
from training.data.grid import save_image_grid
from training.ema import ema_beta, update_ema
from training.image_grid import SampleGrid, setup_snapshot_image_grid
from training.networks import bfloat16_training
from training.round import Round
from training.run.console import Console
from training.run.construction import participants
from training.run.counters import Counters
from training.run.evaluation import Evaluation
from training.run.length import RunLength
from training.run.lock import lock_run
from training.run.names import INITIAL_GRID, grid_file_name, has_exact_names, snapshot_name
from training.run.outputs import CHECKPOINT, SNAPSHOT, STATUS, Outputs
from training.run.restore import describe_dataset, find_checkpoint, restore_from
from training.run.settings import TrainingSettings, settings_signature
from training.run.settings_changes import comparable_options
from training.run.status import read_status
from training.run.tick_report import describe_pace, report_tick
from training.run.time_plan import describe_length
from training.run.training_state import TrainingState
from training.run.watch import RunWatch
from training.stop_request import StopRequest, listen_for_stop

__all__ = ["save_image_grid", "setup_snapshot_image_grid", "training_loop"]

MAX_ERROR_CHARS = 1000
"""Length of an error in ``exit_status.json``."""


def training_loop(*args: Any, **kwargs: Any) -> bool:
    """Train, or continue the training whose checkpoint lies in ``run_dir``; every process calls this.

    The arguments are the fields of `training.run.settings.TrainingSettings`.

    Returns:
        True if training is complete, False if it was stopped; then a checkpoint to continue from has been saved.

    Raises:
        UserError: The dataset or a setting does not fit, or the result of the training could not be written.
    """
    settings = TrainingSettings(*args, **kwargs)
    torch.backends.cudnn.benchmark = settings.cudnn_benchmark
    torch.backends.cuda.matmul.allow_tf32 = settings.allow_tf32
    torch.backends.cudnn.allow_tf32 = settings.allow_tf32
    with _locked(settings):
        return _construct_trainer(settings).run()


training_loop.__signature__ = settings_signature()  # type: ignore[attr-defined]


@contextmanager
def _locked(settings: TrainingSettings) -> Iterator[None]:
    if not settings.is_main:
        yield
        return
    with lock_run(Path(settings.run_dir)):
        yield


def _construct_trainer(settings: TrainingSettings) -> Trainer:
    """Construct a trainer; settings that do not fit, perhaps from an edited file, are errors of the user."""
    line = "Still preparing training ..." if settings.is_main and settings.progress != "none" else None
    try:
        with heartbeat(lambda: line):  # large networks take minutes on a CPU, with their tables of layers
            return Trainer(settings)
    except UserError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"the settings cannot be used: {type(error).__name__}: {error}") from error
    except RuntimeError as error:
        if "shared memory" not in str(error):
            raise
        raise UserError(f"there is too little shared memory (/dev/shm): {error}; enlarge it") from error


@dataclass(frozen=True)
class Due:
    """What is due at the end of a tick."""

    samples: bool
    snapshot: bool
    metrics: bool


class Trainer:
    """Trains in one process of a run.

    Args:
        settings: The arguments of `training_loop`.
    """

    def __init__(self, settings: TrainingSettings) -> None:
        self.settings = settings
        self.run_dir = Path(settings.run_dir)
        self.device = torch.device(settings.device)
        self.console = Console(settings.is_main, settings.progress)
        self.counters = Counters()
        self.length = RunLength(settings, self.counters)
        self.start_sec = time.perf_counter()
        self.last_checkpoint_sec = -math.inf
        self.last_checkpoint_nimg = -1
        seed_everything(settings.random_seed * settings.num_gpus + settings.rank)
        training_stats.init_multiprocessing(settings.rank, torch.device("cpu") if settings.num_gpus > 1 else None)
        self.stats = training_stats.Collector()

        self.state = TrainingState(settings, self.device, self.console.say)
        self.samples = SampleGrid(self.state.training_set, self.state.G.z_dim, self.device)
        pretrained_D = str(getattr(self.state.D, "pretrained", "none"))
        self.evaluation = Evaluation(settings, self.run_dir, self.device, self.console.say, pretrained_D)
        log_bytes = self._restore()
        if self.counters.steps_per_kimg == 0:  # for all of the run, whatever its ticks become
            self.counters.steps_per_kimg = 1000 if settings.kimg_per_tick < 1 or self.length.is_timed else 1
        self.outputs = None
        if settings.is_main:
            self.outputs = Outputs(settings, self.samples, self.console, log_bytes, self.counters)
        self.watch = RunWatch(settings, self.state.training_set, self.samples.real_img, self.console.say)

    def stateful(self) -> dict[str, checkpoint.Stateful]:
        """Return everything that the next iteration depends on; names are those in the checkpoint."""
        return {
            "counters": self.counters,
            **self.state.stateful(),
            "grid": self.samples,
            "ranks/stats": self.stats,
            "ranks/rng": GlobalGenerators(self.device),  # last: nothing may draw numbers after it is restored
        }

    def run(self) -> bool:
        """Train until the end or until a stop is requested; returns whether training is complete."""
        try:
            with closing(self.state.batches), listen_for_stop(self.console.say) as stop, self._console():
                with self._failure_in_status():
                    self._train(stop)
                self._finish()
        except KeyboardInterrupt:  # the second Ctrl-C
            self._write_status_and_page("interrupted")
            raise
        finally:
            if self.outputs is not None:
                self.outputs.close()
        return self._is_done()

    def _train(self, stop: StopRequest) -> None:
        self._begin()
        while not self._is_done() and not stop.agreed():
            self._iterate()
            if self._is_tick_over():
                self._end_tick()
                if self._is_aborted():
                    break
        if not (self.watch.must_stop() or self._keeps_last_checkpoint()):
            self._save_checkpoint()
            self._save_last_outputs()

    @contextmanager
    def _failure_in_status(self) -> Iterator[None]:
        """Record an error that ends training."""
        try:
            yield
        except Exception as error:
            self._write_status_and_page("failed", error=_describe_failure(error))
            raise

    @contextmanager
    def _console(self) -> Iterator[None]:
        with (
            self.console.running(None if self.length.is_timed else self.length.total_nimg, self.counters.cur_nimg),
            self.console.doing("training"),
        ):
            yield

    def _begin(self) -> None:
        self.start_sec = time.perf_counter() - self.counters.total_sec
        self.length.check_time_limit(self._elapsed_sec())
        last_status = read_status(self.run_dir) if self.settings.is_main else {}
        self._write_status("running")
        if self.counters.cur_nimg == 0 and self.outputs is not None:
            self.outputs.save_real_images()
            self._save_samples(INITIAL_GRID)
        self._save_missed_snapshot()
        self._finish_interrupted_metrics(last_status.get("retried"))
        limit_sec = self.settings.time_limit_sec
        self.console.say(f"Training for {describe_length(self.settings.total_kimg, limit_sec)}...")

    def _iterate(self) -> None:
        """One optimizer step of every phase that is due, then the moving average and adaptive augmentation."""
        state, counters, settings = self.state, self.counters, self.settings
        begin_sec, begin_wait_sec = time.perf_counter(), state.batches.wait_sec
        inputs = self._next_inputs()
        for participant in participants(state.loss):
            participant.begin_iteration()
        with bfloat16_training(state.training_set.resolution, settings.num_bf16_res):
            for phase, rounds in zip(state.phases, inputs, strict=True):
                if counters.batch_idx % phase.interval == 0:
                    phase.run(state.loss, rounds)
        beta = ema_beta(settings.batch_size, counters.cur_nimg, settings.ema_kimg, settings.ema_rampup)
        update_ema(state.G_ema, state.G, beta)
        counters.cur_nimg += settings.batch_size
        counters.batch_idx += 1
        for participant in participants(state.loss):
            participant.end_iteration(counters.batch_idx)
        self.console.advance(settings.batch_size)
        if state.ada is not None:
            state.ada.update(counters.batch_idx)
        counters.tick_sec += time.perf_counter() - begin_sec
        counters.data_wait_sec += state.batches.wait_sec - begin_wait_sec
        self.length.check_time_limit(self._elapsed_sec())

    def _next_inputs(self) -> list[list[Round]]:
        """Return the inputs of an iteration; where images cannot be read anymore, save what has been trained."""
        try:
            return self.state.batches.next(len(self.state.phases))
        except Exception:
            # Nothing of this iteration has happened yet. A checkpoint takes all processes: not if one of them has died.
            if self.state.batches.has_failed and self.counters.cur_nimg > 0 and not self._keeps_last_checkpoint():
                self._save_checkpoint()
            raise

    def _end_tick(self) -> None:
        begin_sec = time.perf_counter()
        self.length.plan(self._elapsed_sec(), self._sec_per_kimg())
        self._report_tick()
        is_done = self._is_done()
        if self.counters.cur_tick == 0 and not is_done:
            self._describe_pace()
        due = self._due(is_done)
        snapshot = self._save_outputs(due)
        self._start_tick()
        self.counters.maintenance_sec = time.perf_counter() - begin_sec
        self.counters.unscored_snapshot = snapshot.name if due.metrics and snapshot is not None else ""
        # Before the metrics: they may take longer than a job manager waits for a run to stop.
        if (is_done or due.metrics or self._is_checkpoint_old()) and not self._keeps_last_checkpoint():
            self._save_checkpoint()
        if due.metrics:
            self._evaluate(snapshot)
        if due.samples or due.snapshot or due.metrics:
            self._write_status_and_page("running")  # progress, and the planned length of a run of a given time
        self.counters.maintenance_sec = time.perf_counter() - begin_sec

    def _due(self, is_done: bool) -> Due:
        tick, settings = self.counters.cur_tick, self.settings
        metrics = self.evaluation.is_due(tick, is_done)
        # Scores are compared by the snapshots that they belong to.
        is_scored = metrics and settings.network_snapshot_ticks is not None
        return Due(
            samples=_is_due(tick, settings.image_snapshot_ticks, is_done),
            snapshot=is_scored or _is_due(tick, settings.network_snapshot_ticks, is_done),
            metrics=metrics,
        )

    def _save_outputs(self, due: Due) -> Path | None:
        """Save the samples and the snapshot that are due; returns the path of the snapshot."""
        nimg, is_exact, snapshot = self.counters.cur_nimg, self._needs_exact_names(), None
        if due.samples:
            self.watch.add_samples(self._save_samples(grid_file_name(nimg, is_exact)), self.state.augment_pipe)
            if self.outputs is not None and not self._is_average_warm():
                G = copy.deepcopy(self.state.G).eval()
                name = grid_file_name(nimg, is_exact, is_unaveraged=True)
                self.outputs.save_samples(name, G, nimg, "Samples of G")
        if due.snapshot:
            snapshot = self._save_snapshot(snapshot_name(nimg, is_exact))
        if due.samples or due.snapshot:
            self.counters.last_snapshot_nimg = nimg
        return snapshot

    def _start_tick(self) -> None:
        self.counters.cur_tick += 1
        self.counters.tick_start_nimg = self.counters.cur_nimg
        self.counters.tick_sec = self.counters.data_wait_sec = 0.0

    def _evaluate(self, snapshot: Path | None, missing: list[str] | None = None) -> None:
        """Compute the metrics of a snapshot: all of them, or those that are missing."""
        cur_nimg, first_metric = self.counters.cur_nimg, self.evaluation.metrics[0]
        values = self.evaluation.run(self.state.G_ema, snapshot, skip_recorded=missing is not None)
        is_known = missing is not None and first_metric not in missing
        self.watch.add_scores(cur_nimg / 1000, values.get(first_metric, {}), snapshot, is_known)
        if self.outputs is not None:
            self.outputs.write_metrics(cur_nimg, dict(ChainMap(*values.values())))
        self.counters.unscored_snapshot = ""

    def _finish_interrupted_metrics(self, retried: str | None) -> None:
        """Compute the metrics in which the last session was killed, unless it was killed in this.

        Args:
            retried: Snapshot whose metrics the last session tried to finish; on the main process.
        """
        name = self.counters.unscored_snapshot
        missing = self.evaluation.missing(self.run_dir / name) if name else []
        if missing and distributed.from_rank0(retried) != name:
            self._write_status("running", retried=name)
            self.console.say(f"Scoring {name}, which has no results of {', '.join(missing)}; --metrics=none skips that")
            self._evaluate(self.run_dir / name, missing)
        self.counters.unscored_snapshot = ""

    def _is_done(self) -> bool:
        return self.length.is_over

    def _is_tick_over(self) -> bool:
        tick_nimg = self.counters.cur_nimg - self.counters.tick_start_nimg
        # The first tick ends after one iteration, so that samples appear soon.
        return self._is_done() or self.counters.cur_tick == 0 or tick_nimg >= self.length.tick_nimg

    def _is_aborted(self) -> bool:
        abort_fn = self.settings.abort_fn
        return self.watch.must_stop() or (abort_fn is not None and distributed.any_process(bool(abort_fn())))

    def _report_tick(self) -> None:
        counters = self.counters
        total_nimg = self.length.total_nimg
        line = report_tick(counters, self._elapsed_sec(), total_nimg, self.state.augment_p, self.device)
        for phase in self.state.phases:
            seconds = phase.stopwatch.read_sec()
            training_stats.report0(f"Timing/{phase.name}", [] if seconds is None else seconds)
        training_stats.report0("Health/skipped_images", sum(distributed.gather(self.state.training_set.num_skipped)))
        self.stats.update()
        alarms = self.watch.add_tick(self.stats)
        self.console.say(line + self.watch.describe())
        if self.outputs is not None:
            self.outputs.write_stats(counters.cur_nimg, self.stats, alarms)
        if self.settings.progress_fn is not None:
            self.settings.progress_fn(counters.cur_nimg, self.length.total_nimg)

    def _describe_pace(self) -> None:
        """Print how long the run will take, from the times of the phases, once each has run."""
        settings, counters = self.settings, self.counters
        ticks = min(filter(None, (settings.image_snapshot_ticks, settings.network_snapshot_ticks)), default=None)
        self.console.say(
            describe_pace(
                sec_per_kimg=self._sec_per_kimg(),
                kimg_left=(self.length.total_nimg - counters.cur_nimg) / 1000,
                kimg_to_snapshot=None if ticks is None else ticks * self.length.tick_nimg / 1000,
                is_timed=self.length.is_timed,
            )
        )

    def _sec_per_kimg(self) -> float:
        iteration_sec = sum((phase.stopwatch.read_sec() or 0.0) / phase.interval for phase in self.state.phases)
        return iteration_sec / self.settings.batch_size * 1000

    def _needs_exact_names(self) -> bool:
        """Return whether earlier outputs are of the same kimg, so that only exact names tell them apart."""
        nimg = self.counters.cur_nimg
        # The counters do not know what a stop has left.
        is_known = self.counters.last_snapshot_nimg // 1000 == nimg // 1000
        return distributed.from_rank0(is_known or has_exact_names(self.run_dir, nimg))

    def _is_average_warm(self) -> bool:
        """Return whether the moving average has lost half of the initial weights; until then it shows little of G."""
        settings, cur_nimg = self.settings, self.counters.cur_nimg
        return settings.ema_rampup is not None or cur_nimg >= settings.ema_kimg * 1000

    def _save_samples(self, name: str) -> np.ndarray | None:
        """Save the sample grid; returns it on the main process."""
        if self.outputs is None:
            return None
        return self.outputs.save_samples(name, self.state.G_ema, self.counters.cur_nimg)

    def _save_snapshot(self, name: str) -> Path:
        networks = self.state.networks()
        for key, network in networks.items():
            if key != "G_ema":
                misc.check_ddp_consistency(network, ignore_regex=r".*\.(w_avg|running_mean|running_var)")
        path = self.run_dir / name
        if self.outputs is not None:
            self.outputs.save_snapshot(path, networks)
        is_missing = self.outputs is not None and self.outputs.missing(SNAPSHOT) is not None
        self.counters.unsaved_snapshot = name if distributed.from_rank0(is_missing) else ""
        return path

    def _save_missed_snapshot(self) -> None:
        """Save the snapshot that the last session could not write, such as its final one; not from later weights."""
        name, nimg = self.counters.unsaved_snapshot, self.counters.cur_nimg
        is_missed = name in [snapshot_name(nimg, is_exact) for is_exact in (False, True)]
        if not is_missed or self.counters.last_snapshot_nimg != nimg:
            return
        if distributed.from_rank0(not (self.run_dir / name).exists()):
            self._save_snapshot(name)

    def _is_checkpoint_old(self) -> bool:
        is_old = time.perf_counter() - self.last_checkpoint_sec >= self.settings.state_interval_sec
        return distributed.from_rank0(is_old)  # clocks differ, and all processes must do the same

    def _keeps_last_checkpoint(self) -> bool:
        """Return whether the last checkpoint stays the newest because training diverges."""
        return self.last_checkpoint_nimg >= 0 and self.watch.is_diverging()

    def _save_checkpoint(self) -> None:
        """Save a checkpoint unless the last one is of this iteration; every process must call this."""
        if self.last_checkpoint_nimg == self.counters.cur_nimg:
            return
        self.counters.total_sec = self._elapsed_sec()
        tree = checkpoint.collect(self.stateful())
        is_saved = True
        if self.outputs is not None:
            tree.update(log_bytes=self.outputs.log_bytes, dataset=self._dataset_record)
            tree["options"] = comparable_options(self.settings)
            is_saved = self.outputs.save_checkpoint(self.counters.cur_nimg, tree, self.state.networks())
        if distributed.from_rank0(is_saved):  # else the next tick tries again
            self.last_checkpoint_sec = time.perf_counter()
            self.last_checkpoint_nimg = self.counters.cur_nimg

    @functools.cached_property
    def _dataset_record(self) -> dict[str, Any]:
        return describe_dataset(self.state.training_set)

    def _restore(self) -> int:
        """Continue from the newest checkpoint, if there is one; returns the length of its ``stats.jsonl``."""
        say = self.console.say
        path = distributed.from_rank0(find_checkpoint(self.run_dir, say) if self.settings.is_main else None)
        if path is None:
            return 0
        log_bytes = restore_from(path, self.stateful(), self.state.training_set, self.settings, say)
        self.last_checkpoint_nimg = self.counters.cur_nimg
        say(f"Continuing from {path.name}: {self.counters.cur_nimg / 1000:.1f} kimg done")
        return log_bytes

    def _save_last_outputs(self) -> None:
        """Save samples and a snapshot if the run was stopped between two of them; its continuation ignores them.

        Their names are exact, so that the next ones do not take their place.
        """
        settings, counters = self.settings, self.counters
        if self._is_done() or counters.last_snapshot_nimg == counters.cur_nimg:
            return
        if settings.network_snapshot_ticks is not None:
            self._save_snapshot(snapshot_name(counters.cur_nimg, is_exact=True))
        if settings.image_snapshot_ticks is not None:
            self._save_samples(grid_file_name(counters.cur_nimg, is_exact=True))

    def _finish(self) -> None:
        if self.outputs is None:
            return
        self.outputs.close()
        if self.watch.has_diverged:
            self._write_status_and_page("diverged")
            raise UserError(self.watch.describe_divergence())
        missing = self.outputs.missing(CHECKPOINT, *([SNAPSHOT] if self._is_done() else []))
        if missing is not None:
            self._write_status_and_page("unsaved")
            raise UserError(f"{self.run_dir}: training has ended without {missing}")
        self._write_status_and_page("finished" if self._is_done() else "stopped")
        if self._is_done() and (unwritten := self.outputs.missing(STATUS)) is not None:
            raise UserError(f"{self.run_dir}: training is complete, but this could not be recorded; {unwritten}")

    def _write_status(self, reason: str, **details: Any) -> None:
        if self.outputs is not None:
            kimg, total_kimg = self.counters.cur_nimg / 1000, self.length.total_nimg / 1000
            self.outputs.write_status(reason, kimg, total_kimg, **details, **self.watch.describe_warnings())

    def _write_status_and_page(self, reason: str, **details: Any) -> None:
        self._write_status(reason, **details)
        self.watch.write_page()

    def _elapsed_sec(self) -> float:
        return time.perf_counter() - self.start_sec


def _describe_failure(error: Exception) -> str:
    """Describe in one line for ``exit_status.json`` what has ended training."""
    if distributed.is_peer_lost(error):
        return distributed.PEER_LOST
    return describe(error)[:MAX_ERROR_CHARS]


def _is_due(tick: int, interval_ticks: int | None, is_done: bool) -> bool:
    return interval_ticks is not None and (is_done or tick % interval_ticks == 0)
