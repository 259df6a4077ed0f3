"""Metrics during training, whose failures never stop the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from metrics import metric_main
from metrics.metric_utils import ProgressMonitor
from metrics.results import read_snapshot_results, results_file
from torch_utils import distributed
from training.run.settings import TrainingSettings


class Evaluation:
    """Scores the moving average of G every few ticks and at the end, but not in tick 0.

    Args:
        settings: Settings of the run.
        run_dir: Folder for the results, ``metric-<name>.jsonl``.
        device: Device of this process.
        say: Prints a line, on rank 0 only.
        pretrained_D: Pretrained backbone of D (`metrics.metric_utils.MetricOptions`).
    """

    def __init__(
        self,
        settings: TrainingSettings,
        run_dir: Path,
        device: torch.device,
        say: Callable[[str], None],
        pretrained_D: str = "unknown",
    ) -> None:
        self._run_dir = run_dir
        self._device = device
        self._say = say
        self._dataset_kwargs = settings.metric_set_kwargs or settings.training_set_kwargs
        self._object_detector = settings.object_detector
        self._pretrained_D = pretrained_D
        self._detector_folder = settings.detector_folder
        self._interval_ticks = settings.metrics_ticks or settings.network_snapshot_ticks
        self._is_main = distributed.rank() == 0
        self._verbose = self._is_main and settings.progress != "none"
        # Missing weights are downloaded, so one process looks for them and tells the others.
        missing: dict[str, str] = {}
        if self._is_main:
            missing = metric_main.missing_weights(
                settings.metrics, self._detector_folder, self._object_detector, self._dataset_kwargs
            )
        missing = distributed.from_rank0(missing)
        for name, reason in missing.items():
            say(f"Metric {name} is switched off: {reason}")
        self.metrics = [name for name in settings.metrics if name not in missing]

    def is_due(self, cur_tick: int, is_done: bool) -> bool:
        """Return whether to score at the end of this tick."""
        if not self.metrics or cur_tick == 0 or self._interval_ticks is None:
            return False
        return is_done or cur_tick % self._interval_ticks == 0

    def run(
        self, G_ema: torch.nn.Module, snapshot_pkl: Path | None, skip_recorded: bool = False
    ) -> dict[str, dict[str, float]]:
        """Score, write the results and return the values of each metric; one that fails is reported and left out.

        Values that are not finite are among them, unless they come from the files, which have null in their place.

        Args:
            G_ema: The generator to score.
            snapshot_pkl: Its snapshot; None if there is none.
            skip_recorded: Take results that are in the run folder already from there.
        """
        distributed.broadcast_(G_ema.buffers())  # batch statistics: each process has its own
        recorded = distributed.from_rank0(self._recorded(snapshot_pkl) if skip_recorded and self._is_main else {})
        values: dict[str, dict[str, float]] = {}
        for metric in self.metrics:
            if metric in recorded:
                values[metric] = recorded[metric]
                continue
            try:
                result = self._score(metric, G_ema)
                values[metric] = dict(result.results)
                if self._is_main:
                    metric_main.report_metric(result, run_dir=self._run_dir, snapshot_pkl=snapshot_pkl)
            except Exception as error:  # whatever it is, training matters more
                self._say(f"Metric {metric} failed: {type(error).__name__}: {error}")
        return values

    def missing(self, snapshot_pkl: Path) -> list[str]:
        """Return the metrics of which the run folder holds no result for a snapshot; every process must call this."""
        recorded = self._recorded(snapshot_pkl) if self._is_main else {}
        return distributed.from_rank0([metric for metric in self.metrics if metric not in recorded])

    def _recorded(self, snapshot_pkl: Path | None) -> dict[str, dict[str, float]]:
        """Return the values of each metric that the run folder holds for a snapshot."""
        if snapshot_pkl is None:
            return {}
        found = {
            metric: read_snapshot_results(results_file(self._run_dir, metric)).get(snapshot_pkl.name)
            for metric in self.metrics
        }
        return {metric: record.values for metric, record in found.items() if record is not None}

    def _score(self, metric: str, G_ema: torch.nn.Module) -> Any:
        return metric_main.calc_metric(
            metric=metric,
            G=G_ema,
            dataset_kwargs=self._dataset_kwargs,
            num_gpus=distributed.world_size(),
            rank=distributed.rank(),
            device=self._device,
            progress=ProgressMonitor(verbose=self._verbose),
            detector_folder=self._detector_folder,
            object_detector=self._object_detector,
            pretrained_D=self._pretrained_D,
        )
