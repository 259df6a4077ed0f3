from training.run.counters import Counters
from training.run.length import RunLength
from training.run.settings import TrainingSettings


def test_without_a_limit_images_count():
    counters = Counters(cur_nimg=3999)
    length = RunLength(TrainingSettings(total_kimg=4, kimg_per_tick=2), counters)
    length.look_at_clock(1e9)
    length.plan(1e9, 1)
    assert (length.total_nimg, length.tick_nimg, length.is_over) == (4000, 2000, False)
    counters.cur_nimg = 4000
    assert length.is_over


def test_a_limit_ends_the_run_and_plans_it():
    counters = Counters(cur_nimg=1000)
    length = RunLength(TrainingSettings(total_kimg=1000, time_limit_sec=2000), counters)
    length.look_at_clock(1999)
    assert not length.is_over
    length.plan(1000, 5)
    assert (length.total_nimg, length.tick_nimg) == (201_000, 4000)
    length.look_at_clock(2000)
    assert length.is_over


def test_whichever_is_first():
    counters = Counters(cur_nimg=1000)
    length = RunLength(TrainingSettings(total_kimg=100, time_limit_sec=2000), counters)
    length.plan(1000, 5)
    assert length.total_nimg == 100_000
    counters.cur_nimg = 100_000
    assert length.is_over


def test_ticks_stay_as_they_were_planned_until_the_limit_changes():
    counters = Counters()
    settings = TrainingSettings(time_limit_sec=2000)
    RunLength(settings, counters).plan(0, 5)
    RunLength(settings, counters).plan(500, 10)  # slower, or in a later part of the run
    assert (counters.planned_tick_nimg, counters.planned_nimg) == (4000, 150_000)
    RunLength(TrainingSettings(time_limit_sec=4000), counters).plan(500, 10)
    assert counters.planned_tick_nimg == 4000  # a hundredth of 4000 s at 100 images per second
    assert counters.planned_for_sec == 4000
