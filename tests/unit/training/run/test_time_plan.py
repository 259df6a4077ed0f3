import math

import pytest

from training.run.time_plan import (
    MAX_TICK_SEC,
    UNLIMITED_KIMG,
    describe_length,
    flag_to_train_longer,
    num_ticks,
    parse_time,
    plan_nimg,
    ticks_per_snapshot,
    time_name,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30m", 1800),
        ("8h", 28800),
        ("2d", 172800),
        ("1.5h", 5400),
        ("1d12h", 129600),
        ("45s", 45),
        ("3650d", 3650 * 86400),
    ],
)
def test_times(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "8", "h", "8x", "-8h", "0m", "8h ", "1e9h", "nan", "99999999d", "8h,", "8 h"])
def test_what_is_not_a_time(text):
    with pytest.raises(ValueError, match=r"is not a time; give one such as 30m, 8h, 2d or 1d12h$"):
        parse_time(text)


@pytest.mark.parametrize("text", ["30m", "8h", "2d", "1d12h", "1h30m", "45s"])
def test_times_in_names(text):
    assert time_name(parse_time(text)) == text


@pytest.mark.parametrize("limit_sec", [60, 1800, 28800, 30 * 86400])
def test_ticks_are_short_and_snapshots_are_about_twenty(limit_sec):
    assert limit_sec / num_ticks(limit_sec) <= MAX_TICK_SEC
    assert 20 <= num_ticks(limit_sec) / ticks_per_snapshot(limit_sec) <= 21


def test_the_length_follows_from_the_pace():
    """At 5 s per kimg, 1000 s more are 200 kimg; a tick is a hundredth of all 2000 s, 4 kimg."""
    assert plan_nimg(2000, 1000, 7000, 5) == (207_000, 4000)
    assert plan_nimg(2000, 3000, 7000, 5) == (7000, 4000)
    assert math.isfinite(plan_nimg(2000, 0, 0, 0)[0])


def test_the_flag_that_trains_longer_suffices():
    assert flag_to_train_longer(3, 10, None) == "--kimg=8"
    assert flag_to_train_longer(10, 10, 60) == "--kimg=22"
    assert flag_to_train_longer(3, 10, 60) == "--time=2m"
    assert flag_to_train_longer(3, 10, 60, spent_sec=300) == "--time=10m"


def test_lengths_in_words():
    assert describe_length(200, None) == "200 kimg"
    assert describe_length(UNLIMITED_KIMG, 28800) == "8h 00m 00s"
    assert describe_length(200, 1800) == "30m 00s, at most 200 kimg"
