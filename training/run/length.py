"""The length of a run: in images, in time, or whichever is reached first."""

from __future__ import annotations

from torch_utils import distributed
from training.run.counters import Counters
from training.run.settings import TrainingSettings
from training.run.time_plan import plan_nimg


class RunLength:
    """Decides when a run and its ticks end; all processes must call its methods alike.

    Args:
        settings: Settings of the run.
        counters: Progress of the run, which also keeps the plan, as checkpoints must contain it.
    """

    def __init__(self, settings: TrainingSettings, counters: Counters) -> None:
        self._settings = settings
        self._counters = counters
        self._is_time_up = False

    @property
    def is_timed(self) -> bool:
        """Whether the time of the run is limited."""
        return self._settings.time_limit_sec is not None

    @property
    def total_nimg(self) -> float:
        """Length of the run in images; the expected one if its time is limited."""
        return self._counters.planned_nimg or self._settings.total_nimg

    @property
    def tick_nimg(self) -> float:
        """Length of a tick in images."""
        return self._counters.planned_tick_nimg or self._settings.kimg_per_tick * 1000

    @property
    def is_over(self) -> bool:
        """Whether training is complete."""
        return self._is_time_up or self._counters.cur_nimg >= self._settings.total_nimg

    def check_time_limit(self, elapsed_sec: float) -> None:
        """Update whether the time of the run is over.

        Args:
            elapsed_sec: Seconds since the run began, over all its sessions.
        """
        limit_sec = self._settings.time_limit_sec
        self._is_time_up = limit_sec is not None and distributed.any_process(elapsed_sec >= limit_sec)

    def plan(self, elapsed_sec: float, sec_per_kimg: float) -> None:
        """Re-estimate after each tick how many images a time-limited run and its ticks will have."""
        limit_sec, counters = self._settings.time_limit_sec, self._counters
        if limit_sec is None:
            return
        nimg = plan_nimg(limit_sec, elapsed_sec, counters.cur_nimg, sec_per_kimg)
        total_nimg, counters.planned_tick_nimg = distributed.from_rank0(nimg)
        counters.planned_nimg = min(total_nimg, self._settings.total_nimg)
