"""How long a run is: in images, in time, or whichever is over first."""

from __future__ import annotations

from torch_utils import distributed
from training.run.counters import Counters
from training.run.settings import TrainingSettings
from training.run.time_plan import plan_nimg


class RunLength:
    """The end of a run and of its ticks; all processes must call its methods alike.

    Args:
        settings: Of the run.
        counters: How far it is; the plan is kept there, as it must outlast a part of the run.
    """

    def __init__(self, settings: TrainingSettings, counters: Counters) -> None:
        self._settings = settings
        self._counters = counters
        self._is_time_up = False

    @property
    def total_nimg(self) -> float:
        """Length in images; of a run that is limited by time, what it is expected to see."""
        return self._counters.planned_nimg or self._settings.total_nimg

    @property
    def tick_nimg(self) -> float:
        """Length of a tick in images."""
        return self._counters.planned_tick_nimg or self._settings.kimg_per_tick * 1000

    @property
    def is_over(self) -> bool:
        """Whether training is complete."""
        return self._is_time_up or self._counters.cur_nimg >= self._settings.total_nimg

    def look_at_clock(self, elapsed_sec: float) -> None:
        """Find out whether the time is over.

        Args:
            elapsed_sec: Seconds since the run began, over all its parts.
        """
        limit_sec = self._settings.time_limit_sec
        self._is_time_up = limit_sec is not None and distributed.any_process(elapsed_sec >= limit_sec)

    def plan(self, elapsed_sec: float, sec_per_kimg: float) -> None:
        """Plan the images of a run of a given time and of its ticks; anew after each tick, as the first is slow."""
        limit_sec, counters = self._settings.time_limit_sec, self._counters
        if limit_sec is None:
            return
        nimg = plan_nimg(limit_sec, elapsed_sec, counters.cur_nimg, sec_per_kimg)
        total_nimg, counters.planned_tick_nimg = distributed.from_rank0(nimg)
        counters.planned_nimg = min(total_nimg, self._settings.total_nimg)
