"""Monitoring a run: its health, its best snapshot, and the page in its folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dnnlib.formatting import format_number
from torch_utils import distributed, training_stats
from training.checkpoint_names import list_checkpoints
from training.run.best import keep_best
from training.run.health.history import MEASUREMENTS
from training.run.health.monitor import Monitor
from training.run.health.replay import first_score, replay
from training.run.health.samples import MIN_AUGMENT_P, SampleMeter
from training.run.health.signs import HealthWarning
from training.run.page.run_page import write_run_page
from training.run.settings import TrainingSettings


class RunWatch:
    """Monitors one run; its own failures are reported once and never stop training.

    Every process constructs one; the one of the main process does the work.

    Args:
        settings: Settings of the run, whose past is read from ``stats.jsonl`` in its folder.
        training_set: Images of the run.
        real_img: The real images of the sample grid, uint8 ``[N, C, H, W]``.
        say: Prints a line.
    """

    def __init__(
        self, settings: TrainingSettings, training_set: Any, real_img: np.ndarray, say: Callable[[str], None]
    ) -> None:
        self._run_dir, self._is_main, self._say = Path(settings.run_dir), settings.is_main, say
        self._stop_on = settings.stop_on
        self._grid = training_set, real_img
        self._meter: SampleMeter | None = None
        self._failed: set[str] = set()
        self._has_page = False
        self.monitor = Monitor(asdict(settings))
        if self._is_main:
            with self._guard("the health of the run so far"):
                self.monitor = replay(self._run_dir, asdict(settings))

    @contextmanager
    def _guard(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever it is, training matters more
            if what not in self._failed:
                self._failed.add(what)
                self._say(f"Warning: {what} failed ({type(error).__name__}: {error}); training goes on without")

    def _warn(self, warnings: Iterable[HealthWarning]) -> None:
        for warning in warnings:
            self._say(f"Warning: {warning.text}")

    def add_tick(self, stats: training_stats.Collector) -> dict[str, dict[str, float]]:
        """Check the statistics of a tick and print new warnings; returns one further statistic for each warning."""
        if self._is_main:
            with self._guard("the health check"):
                self._warn(self.monitor.add_tick(stats.as_dict()))
        return self.monitor.alarms()

    def describe(self) -> str:
        """Return the current warnings for the console line of a tick; empty if there are none."""
        kinds = self.monitor.kinds()
        return f" warnings {','.join(kinds)}" if kinds else ""

    def add_samples(self, img: np.ndarray | None, augment_pipe: Any) -> None:
        """Measure a sample grid and report the values to `training_stats`; every process must call this.

        Args:
            img: Images of the grid, float32 ``[N, C, H, W]`` of about [-1, 1]; None on other processes.
            augment_pipe: Augmentation of the images that D sees, or None.
        """
        measured: dict[str, float] = {}
        if img is not None:
            with self._guard("measuring the samples"):
                self._meter = self._meter or SampleMeter(*self._grid)
                measured = self._meter.measure(img, self._augmentation(augment_pipe))
                self._warn(self.monitor.add_measurements(measured))
        measured = distributed.from_rank0(measured)
        for name in MEASUREMENTS:
            if name in measured:
                training_stats.report0(name, measured[name])

    def _augmentation(self, augment_pipe: Any) -> Callable[[np.ndarray], np.ndarray] | None:
        if augment_pipe is None or not self.monitor.history.has_leaky_augmentation:
            return None
        device = augment_pipe.p.device
        if float(augment_pipe.p) < MIN_AUGMENT_P:
            return None

        def augment(img: np.ndarray) -> np.ndarray:
            with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
                torch.manual_seed(0)
                augmented: np.ndarray = augment_pipe(torch.from_numpy(img).to(device)).cpu().numpy()
            return augmented

        return augment

    def add_scores(
        self, kimg: float, results: Mapping[str, float], snapshot: Path | None, is_known: bool = False
    ) -> None:
        """Compare the scores of a snapshot with those before, and keep the best snapshot.

        Args:
            kimg: Thousands of images seen.
            results: Its scores; the first one counts.
            snapshot: The snapshot; None if there is none.
            is_known: Whether that score is in the run folder since an earlier session.
        """
        score = first_score(results)
        if score is None or not self._is_main:
            return
        with self._guard("comparing scores"):
            if not is_known:
                self._warn(self.monitor.add_score(kimg, *score))
            if snapshot is not None and keep_best(self._run_dir, *score, kimg, snapshot):
                self._say(f"Best snapshot so far: {snapshot.name}, {score[0]} {format_number(score[1])}")

    def describe_warnings(self) -> dict[str, list[dict[str, Any]]]:
        """Return the current warnings for ``exit_status.json``; an empty dict if there are none."""
        warnings = [asdict(warning) for warning in self.monitor.warnings]
        return {"health": warnings} if warnings else {}

    @property
    def has_diverged(self) -> bool:
        """Whether the run must stop because training diverges, as far as this process knows."""
        return self._stop_on == "divergence" and self.monitor.has_diverged

    def must_stop(self) -> bool:
        """Return `has_diverged` of the main process; every process must call this."""
        return self._stop_on is not None and distributed.from_rank0(self.has_diverged)

    def is_diverging(self) -> bool:
        """Return whether the last tick diverged in a run that stops on divergence; every process must call this."""
        return self._stop_on == "divergence" and distributed.from_rank0("divergence" in self.monitor.kinds())

    def describe_divergence(self) -> str:
        """Return the last console line of a run that stopped because it diverged."""
        reason = next((each.text for each in self.monitor.warnings if each.kind == "divergence"), "training diverges")
        how = "continued as it is, it would diverge again"
        if saved := list_checkpoints(self._run_dir):
            how += f"; a new run with other settings and --resume={saved[-1]} starts from before"
        return f"{self._run_dir}: stopped at {self.monitor.history.kimg:g} kimg, {reason}; {how}"

    def write_page(self) -> None:
        """Write ``report.html`` in the run folder."""
        if self._is_main:
            with self._guard("writing report.html"):
                path = write_run_page(self._run_dir, self.monitor)
                if not self._has_page:
                    self._say(f"Page of this run, rewritten at every snapshot: {path}")
                self._has_page = True
