"""Metrics during training: never a reason for a run to end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dnnlib.util import EasyDict
from metrics import metric_main, metric_utils


class Evaluation:
    """Scores the generator's moving average at a cadence of its own; tick 0 is not scored.

    Args:
        opts: The arguments of `training.training_loop.training_loop`.
        run_dir: Results go to ``metric-<name>.jsonl`` in there.
        device: Device of this process.
        say: Prints a line, on rank 0 only.
    """

    def __init__(self, opts: EasyDict, run_dir: Path, device: torch.device, say: Callable[[str], None]) -> None:
        self._opts = opts
        self._run_dir = run_dir
        self._device = device
        self._say = say
        self._interval_ticks = opts.metrics_ticks or opts.network_snapshot_ticks
        # Missing weights are downloaded, so one process looks for them and tells the others.
        missing = metric_main.missing_weights(opts.metrics, opts.detector_folder) if opts.rank == 0 else {}
        missing = metric_utils.from_rank0(missing, opts.num_gpus)
        for name, reason in missing.items():
            say(f"Metric {name} is switched off: {reason}")
        self.metrics = [name for name in opts.metrics if name not in missing]

    def is_due(self, cur_tick: int, is_done: bool) -> bool:
        """Whether to score at the end of this tick."""
        if not self.metrics or cur_tick == 0 or self._interval_ticks is None:
            return False
        return is_done or cur_tick % self._interval_ticks == 0

    def run(self, G_ema: torch.nn.Module, snapshot_pkl: Path | None) -> dict[str, float]:
        """Score, write the results, and return all values; a metric that fails is reported and left out."""
        values: dict[str, float] = {}
        for metric in self.metrics:
            try:
                result = self._score(metric, G_ema)
                values.update(result.results)
                if self._opts.rank == 0:
                    metric_main.report_metric(result, run_dir=self._run_dir, snapshot_pkl=snapshot_pkl)
            except Exception as error:  # whatever it is, training matters more
                self._say(f"Metric {metric} failed: {type(error).__name__}: {error}")
        return values

    def _score(self, metric: str, G_ema: torch.nn.Module) -> Any:
        opts = self._opts
        return metric_main.calc_metric(
            metric=metric,
            G=G_ema,
            dataset_kwargs=opts.training_set_kwargs,
            num_gpus=opts.num_gpus,
            rank=opts.rank,
            device=self._device,
            progress=metric_utils.ProgressMonitor(verbose=opts.rank == 0 and opts.progress != "none"),
            detector_folder=opts.detector_folder,
        )
