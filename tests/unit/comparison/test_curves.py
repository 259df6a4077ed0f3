"""Curves of records with known numbers: means of two seeds that differ by 4, so that one deviation is 2 sqrt(2)."""

import pytest

from comparison.curves import NUM_TIMES, _by_images, _by_time

SCORE = "fd_tiny"
STD = 8**0.5


def test_means_by_images_with_a_band_of_one_deviation(comparison):
    line = _by_images(comparison.methods[0], SCORE, color=3)
    assert (line.label, line.color) == ("stylegan2", 3)
    assert line.x == [1.008, 2.008, 3.008]
    assert line.y == [32, 22, 14]
    assert line.low == pytest.approx([32 - STD, 22 - STD, 14 - STD])
    assert line.high == pytest.approx([32 + STD, 22 + STD, 14 + STD])


def test_means_by_time_in_minutes(comparison):
    line = _by_time(comparison.methods[0], SCORE, color=0)
    assert len(line.x) == NUM_TIMES == 25
    assert [line.x[i] for i in (0, 12, 24)] == pytest.approx([10.1 / 60, 20.1 / 60, 30.1 / 60], abs=0.001)
    assert [line.y[i] for i in (0, 6, 12, 24)] == pytest.approx([32, 27, 22, 14], abs=0.1)


def test_a_mean_is_one_of_all_seeds(comparison):
    first, second = (run.scores[SCORE] for run in comparison.methods[0].runs)
    del first[-1], second[0]
    by_images, by_time = (draw(comparison.methods[0], SCORE, 0) for draw in (_by_images, _by_time))
    assert (by_images.x, by_images.y) == ([2.008], [22])
    assert (by_time.x, by_time.y) == ([round(20.1 / 60, 3)], [22])


def test_times_begin_where_all_seeds_have_a_score(comparison):
    del comparison.methods[0].runs[1].scores[SCORE][0]
    line = _by_time(comparison.methods[0], SCORE, 0)
    assert len(line.x) == NUM_TIMES
    assert [line.x[0], line.x[-1]] == pytest.approx([20.1 / 60, 30.1 / 60], abs=0.001)


def test_a_single_seed_has_no_band(comparison):
    del comparison.methods[0].runs[1]
    line = _by_images(comparison.methods[0], SCORE, 0)
    assert (line.y, line.low, line.high) == ([30, 20, 12], (), ())


def test_without_scores_there_is_no_curve(comparison):
    for run in comparison.methods[0].runs:
        run.scores.clear()
    assert _by_images(comparison.methods[0], SCORE, 0) is None
    assert _by_time(comparison.methods[0], SCORE, 0) is None
