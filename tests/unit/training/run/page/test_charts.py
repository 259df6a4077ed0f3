"""Curves as JSON on common x values."""

import json
import re

import pytest

from training.run.page.charts import DASHES_PX, NUM_COLORS, Line, chart


def data_of(figure):
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', figure)[1])


def test_lines_share_their_x():
    lines = [Line("a", [1, 3], [10, 30], [9, 29], [11, 31]), Line("b", [2, 3], [5, 6], color=NUM_COLORS + 1)]
    data = data_of(chart("Title", "x", "y", lines, "summary"))
    assert data["x"] == [1, 2, 3]
    a, b = data["curves"]
    assert (a["y"], a["low"], a["high"]) == ([10, None, 30], [9, None, 29], [11, None, 31])
    assert (b["y"], b["low"], b["high"]) == ([None, 5, 6], None, None)
    assert (a["color"], a["dash"], b["color"], b["dash"]) == (0, [], 1, list(DASHES_PX[1][0]))


def test_colors_and_dashes_tell_lines_apart():
    lines = [Line("", [1], [2], color=color, dash=dash) for color in range(2 * NUM_COLORS) for dash in range(3)]
    curves = data_of(chart("t", "x", "y", lines, ""))["curves"]
    assert len({(curve["color"], *curve["dash"]) for curve in curves}) == len(lines)


def test_what_is_said_of_it():
    figure = chart("A<", "x", "y", [Line("</script>", [1], [2])], "ends at 2", is_timing=True)
    assert '<figure class="chart" data-timing>' in figure
    assert "<figcaption>A&lt;</figcaption>" in figure
    assert 'role="img" aria-label="A&lt;. ends at 2"' in figure
    assert figure.count("</script>") == 1


def test_what_the_vertical_axis_shows_stands_above_the_plot():
    """Along the axis, longer words than the plot is high would be cut off."""
    line = Line("a", [1], [2])
    figure = chart("Distance", "x", "relative to <training> images", [line], "")
    label = '<div class="y-label">relative to &lt;training&gt; images</div>'
    assert f'<figcaption>Distance</figcaption>{label}<div class="plot"' in figure
    assert "y-label" not in chart("fid", "x", "fid", [line], "")  # the title says it


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="zip"):
        chart("t", "x", "y", [Line("a", [1, 2], [1])], "")


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        chart("t", "x", "y", [Line("a", [1], [float("nan")])], "")
