from training.run.counters import Counters
from training.run.length import RunLength
from training.run.settings import TrainingSettings


def test_without_a_limit_images_count():
    counters = Counters(cur_nimg=3999)
    length = RunLength(TrainingSettings(total_kimg=4, kimg_per_tick=2), counters)
    assert not length.is_timed
    length.check_time_limit(1e9)
    length.plan(1e9, 1)
    assert (length.total_nimg, length.tick_nimg, length.is_over) == (4000, 2000, False)
    counters.cur_nimg = 4000
    assert length.is_over


def test_a_limit_ends_the_run_and_plans_it():
    counters = Counters(cur_nimg=1000)
    length = RunLength(TrainingSettings(total_kimg=1000, time_limit_sec=2000), counters)
    assert length.is_timed
    length.check_time_limit(1999)
    assert not length.is_over
    length.plan(1000, 5)
    assert (length.total_nimg, length.tick_nimg) == (201_000, 4000)
    length.check_time_limit(2000)
    assert length.is_over


def test_whichever_is_first():
    counters = Counters(cur_nimg=1000)
    length = RunLength(TrainingSettings(total_kimg=100, time_limit_sec=2000), counters)
    length.plan(1000, 5)
    assert length.total_nimg == 100_000
    counters.cur_nimg = 100_000
    assert length.is_over


def test_ticks_follow_the_pace():
    """A first iteration that compiles kernels may take twenty times as long: ticks must not stay that short."""
    counters = Counters()
    length = RunLength(TrainingSettings(time_limit_sec=2000), counters)
    length.plan(0, 100)
    assert length.tick_nimg == 200
    length.plan(500, 5)
    assert (length.tick_nimg, length.total_nimg) == (4000, 300_000)


def test_ticks_of_a_new_limit():
    counters = Counters()
    RunLength(TrainingSettings(time_limit_sec=2000), counters).plan(0, 5)
    RunLength(TrainingSettings(time_limit_sec=4000), counters).plan(500, 10)
    assert counters.planned_tick_nimg == 4000  # a hundredth of 4000 s at 100 images per second
