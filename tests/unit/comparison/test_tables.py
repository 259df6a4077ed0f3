"""What tables hold, and how different samples are, from records with known numbers."""

import pytest

from comparison.page import page
from comparison.plan import read_plan
from comparison.report import markdown
from comparison.summary import collect
from comparison.tables import SCORE_COLUMNS, make_tables
from tests.unit.comparison.fake_runs import edit_stats, write_comparison


@pytest.fixture
def plan(tmp_path):
    """Sample grids of seed s of msconD were measured at 1.008, 2.008 and 3.008 kimg: s, s + 2, s + 4."""

    def add_diversity(seed, i, line):
        line["Health/diversity"] = {"num": min(i, 1), "mean": seed + 2 * (i - 1), "std": 0.0}

    edit_stats(write_comparison(tmp_path), add_diversity)
    return read_plan(tmp_path)


def test_means_of_the_second_half(plan):
    table = make_tables(collect(plan, {})).diversity
    assert table.caption.endswith("from 1.504 to 3.008 kimg")
    cells = table.column("diversity")
    assert [[value.number for value in cell.values] for cell in cells] == [[], [3, 4]]
    assert cells[1].values[0].source == "msconD+con-weight=0.1/seed0/00000-scenes/stats.jsonl:3 to 4"


def test_runs_that_are_not_so_far_are_left_out(plan):
    comparison = collect(plan, {})
    del comparison.methods[1].runs[0].ticks[-1]
    assert [value.seed for value in make_tables(comparison).diversity.column("diversity")[1].values] == [1]


def test_page_and_report_show_it(plan):
    comparison = collect(plan, {})
    tables = make_tables(comparison)
    assert "Diversity of samples" in page(plan, comparison, tables)
    assert "| stylegan2 | - |\n| msconD+con-weight=0.1 | 3.500 " in markdown(comparison, tables)


def test_without_measurements_there_is_no_table(tmp_path):
    write_comparison(tmp_path)
    plan = read_plan(tmp_path)
    comparison = collect(plan, {})
    tables = make_tables(comparison)
    assert tables.diversity is None
    assert "Diversity of samples" not in page(plan, comparison, tables)
    comparison.scores.clear()
    assert make_tables(comparison).diversity is None


def test_scores_of_the_last_snapshots_alone_have_one_column(plan):
    comparison = collect(plan, {})
    for result in comparison.methods:
        for run in result.runs:
            del run.scores["okd_tiny_car"][:-1]
    tables = make_tables(comparison)
    curve, point = (tables.scores[score] for score in ("fd_tiny", "okd_tiny_car"))
    assert tuple(column.name for column in curve.columns) == SCORE_COLUMNS
    assert [column.name for column in point.columns] == ["at equal images"]
    assert [row.num_seeds for row in (*curve.rows, *point.rows)] == [2, 2, 2, 2]
    (line,) = [line for line in markdown(comparison, tables).split("\n") if "car | stylegan2" in line]
    assert line.startswith("| okd\\_tiny\\_car | stylegan2 | 2 | - | 0.1400 ")
