"""What is known of runs, from records with known numbers."""

import pytest

from comparison.run_values import at_kimg, last


def test_equal_images_are_what_all_have_seen(comparison):
    del comparison.methods[1].runs[0].scores["fd_tiny"][-1]
    assert comparison.common_kimg("fd_tiny") == pytest.approx(2.008)


def test_cells_name_their_records(comparison):
    cell = comparison.methods[0].cell(at_kimg("fd_tiny", 1.508))
    first = "stylegan2/seed0/00000-scenes/metric-fd_tiny.jsonl"
    assert cell.values[0].source == f"{first}:3 and {first}:2"  # the last snapshot is on line 1
    assert cell.text == "27.00 \N{PLUS-MINUS SIGN} 2.83"
    assert (
        comparison.methods[0]
        .cell(last("fd_tiny"))
        .values[1]
        .source.endswith("seed1/00000-scenes/metric-fd_tiny.jsonl:1")
    )


def test_a_run_without_the_score_is_left_out(comparison):
    del comparison.methods[0].runs[1].scores["fd_tiny"]
    cell = comparison.methods[0].cell(last("fd_tiny"))
    assert (cell.text, cell.spread.num) == ("12.00", 1)
    assert comparison.methods[0].cell(last("nothing")).text == "-"
