"""How different samples are, from records with known numbers."""

import json

import pytest

from comparison.diversity import diversity
from comparison.page import page
from comparison.plan import read_plan
from comparison.report import markdown
from comparison.summary import collect
from tests.unit.comparison.fake_runs import write_comparison


@pytest.fixture
def plan(tmp_path):
    """Sample grids of seed s of msconD were measured at 1.008, 2.008 and 3.008 kimg: s, s + 2, s + 4."""
    write_comparison(tmp_path)
    for path in tmp_path.glob("msconD*/seed*/*/stats.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        seed = int(path.parts[-3].removeprefix("seed"))
        for i, line in enumerate(lines):
            line["Health/diversity"] = {"num": min(i, 1), "mean": seed + 2 * (i - 1), "std": 0.0}
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return read_plan(tmp_path)


def test_means_of_the_second_half(plan):
    caption, rows = diversity(collect(plan, {}))
    assert caption.endswith("from 1.504 to 3.008 kimg")
    assert [[value.number for value in cell.values] for _result, cell in rows] == [[], [3, 4]]
    assert rows[1][1].values[0].source == "msconD+con-weight=0.1/seed0/00000-scenes/stats.jsonl:3 to 4"


def test_runs_that_are_not_so_far_are_left_out(plan):
    comparison = collect(plan, {})
    del comparison.methods[1].runs[0].ticks[-1]
    assert [value.seed for value in diversity(comparison)[1][1][1].values] == [1]


def test_page_and_report_show_it(plan):
    comparison = collect(plan, {})
    assert "Diversity of samples" in page(plan, comparison)
    assert "| stylegan2 | - |\n| msconD+con-weight=0.1 | 3.500 " in markdown(comparison)


def test_without_measurements_there_is_no_table(tmp_path):
    write_comparison(tmp_path)
    plan = read_plan(tmp_path)
    comparison = collect(plan, {})
    assert diversity(comparison)[1] == []
    assert "Diversity of samples" not in page(plan, comparison)
    comparison.scores.clear()
    assert diversity(comparison) == ("", [])
