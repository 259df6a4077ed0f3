"""Scores at equal images and at equal time, from records with known numbers."""

import dataclasses

import pytest

from comparison.run_values import at_kimg, at_sec, best, last, peak_memory_gib, sec_per_kimg, second_half


def means(comparison, value):
    return [result.cell(value).spread.mean for result in comparison.methods]


def test_equal_images(comparison):
    assert comparison.common_kimg("fd_tiny") == pytest.approx(3.008)
    assert means(comparison, at_kimg("fd_tiny", 3.008)) == pytest.approx([14, 7])
    assert means(comparison, at_kimg("fd_tiny", 1.508)) == pytest.approx([27, 16])


def test_equal_time_is_what_the_fastest_took(comparison):
    sec = comparison.common_sec("fd_tiny")
    assert sec == pytest.approx(30.1)
    # The slower method has then seen half as many images: 1.5 of its snapshots.
    assert means(comparison, at_sec("fd_tiny", sec)) == pytest.approx([14, 16], rel=1e-2)


def test_the_second_half_is_averaged(comparison):
    # Of snapshots at 1, 2 and 3 thousand images, the last two.
    assert means(comparison, second_half(comparison, "fd_tiny")) == pytest.approx([18, 9])
    cell = comparison.methods[0].cell(second_half(comparison, "fd_tiny"))
    assert cell.values[0].source.endswith("jsonl:2 and stylegan2/seed0/00000-scenes/metric-fd_tiny.jsonl:1")
    for result in comparison.methods:
        for run in result.runs:
            del run.scores["fd_tiny"][-1]
    assert means(comparison, second_half(comparison, "fd_tiny")) == pytest.approx([27, 16])  # the first is half way


def test_the_mean_is_one_over_the_same_snapshots(comparison):
    # A larger batch ends its iterations, and so its snapshots, a few images later.
    for run in comparison.methods[1].runs:
        points = run.scores["fd_tiny"]
        run.scores["fd_tiny"] = [dataclasses.replace(point, kimg=point.kimg + 0.056) for point in points]
    assert means(comparison, second_half(comparison, "fd_tiny")) == pytest.approx([18, 9])
    # Of a run whose scores are not complete the last snapshot comes first.
    comparison.methods[1].runs[0].scores["fd_tiny"][:-1] = []
    assert means(comparison, second_half(comparison, "fd_tiny")) == pytest.approx([14, 7])
    comparison.methods[1].runs[0].scores["fd_tiny"].clear()
    assert means(comparison, second_half(comparison, "fd_tiny")) == pytest.approx([18, 10.5])  # of its other seed


def test_runs_without_a_common_snapshot_have_no_mean(comparison):
    comparison.methods[0].runs[0].scores["fd_tiny"][1:] = []
    comparison.methods[1].runs[0].scores["fd_tiny"][:-1] = []
    assert comparison.common_snapshots("fd_tiny") == []
    assert comparison.methods[0].cell(second_half(comparison, "fd_tiny")).text == "-"


def test_best_and_last(comparison):
    assert means(comparison, best("fd_tiny")) == means(comparison, last("fd_tiny")) == [14, 7]
    comparison.methods[0].runs[0].scores["pr_tiny_recall"] = comparison.methods[0].runs[0].scores["fd_tiny"]
    assert comparison.methods[0].cell(best("pr_tiny_recall")).spread.mean == 30
    assert comparison.methods[0].cell(last("pr_tiny_recall")).spread.mean == 12


def test_cost(comparison):
    assert means(comparison, sec_per_kimg) == pytest.approx([30.1 / 3.008, 60.1 / 3.008])
    assert means(comparison, peak_memory_gib) == [4.5, 4.5]


def test_runs_without_a_score_cost_nothing_yet(comparison):
    run = comparison.methods[0].runs[1]
    run.ticks[-1] = dataclasses.replace(run.ticks[-1], train_sec=1e6, memory_gib=99)
    run.scores.clear()
    assert means(comparison, sec_per_kimg)[0] == pytest.approx(30.1 / 3.008)
    assert means(comparison, peak_memory_gib)[0] == 4.5
