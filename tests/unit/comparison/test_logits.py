"""How far the logits of real and of generated images lie apart, from records with known numbers."""

import pytest

from comparison.logits import logit_charts, logit_gaps
from comparison.plan import read_plan
from comparison.summary import collect
from comparison.tables import make_tables
from tests.unit.comparison.fake_runs import edit_stats, write_comparison


@pytest.fixture
def comparison(tmp_path):
    """Seed s of msconD has gaps of s + tick at height 8; other logits are those of `fake_runs`."""

    def add_logits(seed, i, line):
        for kind, mean in (("real", seed + i), ("fake", 0)):
            line[f"Loss/scores/{kind}_h8"] = {"num": 1, "mean": mean, "std": 0.0}

    edit_stats(write_comparison(tmp_path), add_logits)
    return collect(read_plan(tmp_path), {})


def test_gaps_are_means_of_the_second_half(comparison):
    # Of ticks at 0.001, 1.008, 2.008 and 3.008 thousand images, the last two.
    gaps = logit_gaps(comparison.methods[1], 3.008)
    assert [value.number for value in gaps[8].values] == [2.5, 3.5]
    assert [value.number for value in gaps[1].values] == [2, 2]
    assert gaps[8].values[0].source == "msconD+con-weight=0.1/seed0/00000-scenes/stats.jsonl:3 to 4"


def test_the_table_has_a_column_for_each_scale_of_any_method(comparison):
    gaps = make_tables(comparison).gaps
    assert gaps.caption.endswith("from 1.504 to 3.008 kimg")
    assert [column.name for column in gaps.columns] == ["height 1", "height 8"]
    assert [[cell.text for cell in row.cells] for row in gaps.rows] == [
        ["2.000 \N{PLUS-MINUS SIGN} 0.000", "-"],
        ["2.000 \N{PLUS-MINUS SIGN} 0.000", "3.000 \N{PLUS-MINUS SIGN} 0.707"],
    ]


def test_without_scores_there_is_no_table(comparison):
    comparison.scores.clear()
    assert make_tables(comparison).gaps is None


def test_runs_that_are_not_so_far_are_left_out(comparison):
    del comparison.methods[1].runs[0].ticks[-1]
    assert [value.seed for value in logit_gaps(comparison.methods[1], 3.008)[8].values] == [1]


def test_damaged_records_are_left_out(comparison):
    result = comparison.methods[1]
    path = result.runs[0].folder / "stats.jsonl"
    path.write_text(path.read_text().replace('"mean": 1', '"mean": "1"'))
    assert [value.seed for value in logit_gaps(result, 3.008)[8].values] == [1]
    assert logit_charts(result) is None


def test_runs_without_a_usable_tick_in_the_second_half_are_left_out(comparison):
    path = comparison.methods[1].runs[0].folder / "stats.jsonl"
    first, second, *lines = path.read_text().splitlines()
    path.write_text("\n".join([first, second, *(line.replace("real_h8", "other") for line in lines)]))
    assert [value.seed for value in logit_gaps(comparison.methods[1], 3.008)[8].values] == [1]


def test_without_usable_statistics_there_is_no_table(comparison):
    for result in comparison.methods:
        for run in result.runs:
            (run.folder / "stats.jsonl").write_text("damaged\n")
    assert make_tables(comparison).gaps is None
