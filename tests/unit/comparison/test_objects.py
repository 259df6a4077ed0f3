"""Tables of objects, of records with known numbers: car distances of 0.14 and 0.07 at equal images."""

import re

from comparison.objects import is_object_score, objects_section
from comparison.tables import make_tables


def section(comparison):
    return objects_section(comparison, make_tables(comparison).scores)


def bars(text):
    """Colors and lengths in percent."""
    return re.findall(r'color-(\d)".*?width="([\d.]+)%"', text)


def test_bars_are_drawn_to_one_scale(comparison):
    assert bars(section(comparison)) == [("0", "100.0"), ("1", "50.0")]


def test_a_method_without_the_score_has_no_bar(comparison):
    for run in comparison.methods[0].runs:
        del run.scores["okd_tiny_car"]
    text = section(comparison)
    assert "<td>-</td>" in text
    assert bars(text) == [("1", "100.0")]


def test_counts_stand_in_a_table_without_bars(comparison):
    for result in comparison.methods:
        for run in result.runs:
            run.scores["okd_tiny_car_fake_per_image"] = run.scores.pop("okd_tiny_car")
    comparison.scores[1] = "okd_tiny_car_fake_per_image"
    text = section(comparison)
    assert "Objects per image" in text
    assert "lower is better" not in text
    assert bars(text) == []


def test_scores_of_whole_images_are_left_out(comparison):
    assert [is_object_score(score) for score in ("okd2k_car", "ofd2k_car", "objects2k_car_per_image", "fd_tiny")] == [
        *(True, True, True, False)
    ]
    assert "fd_tiny" not in section(comparison)
    comparison.scores.remove("okd_tiny_car")
    assert section(comparison) is None
