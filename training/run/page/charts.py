"""Curves with bands, drawn in the browser by uPlot from JSON in the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from training.run.page.html import Html, embed_json, tag

NUM_COLORS = 8
"""Colors ``--line-0`` and so on of style.css; further lines repeat them with other dashes."""
DASHES_PX: tuple[tuple[tuple[int, ...], ...], ...] = (
    ((), (6, 4), (2, 3)),
    ((12, 3, 2, 3), (12, 3, 2, 3, 2, 3), (2, 9)),
)
"""Lengths of dashes and gaps by `Line.dash`: for colors below `NUM_COLORS`, and for those that repeat them."""


@dataclass(frozen=True)
class Line:
    """A curve; all sequences have one length."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = field(default=())
    """Lower edge of the band around it; empty for no band."""
    high: Sequence[float] = field(default=())
    color: int = 0
    """Any number from 0 on, such as that of a run; from `NUM_COLORS` on, the dashes tell colors apart."""
    dash: int = 0
    """0, 1 or 2, for lines of one color."""


def chart(title: str, x_label: str, y_label: str, lines: Sequence[Line], summary: str, is_timing: bool = False) -> Html:
    """Return a figure that the script of the page fills.

    Args:
        title: Caption.
        x_label: What the horizontal axis shows, with its unit.
        y_label: What the vertical axis shows.
        lines: The curves.
        summary: What the figure shows, in words, for those who do not see it.
        is_timing: Mark the figure as one that depends on how fast the machine was.
    """
    xs = sorted({x for line in lines for x in line.x})
    curves = [
        {
            "label": line.label,
            "color": line.color % NUM_COLORS,
            "dash": DASHES_PX[line.color >= NUM_COLORS][line.dash],
            "y": _on(xs, line.x, line.y),
            "low": _on(xs, line.x, line.low) if line.low else None,
            "high": _on(xs, line.x, line.high) if line.high else None,
        }
        for line in lines
    ]
    data = embed_json({"x": xs, "xLabel": x_label, "curves": curves})
    return tag(
        "figure",
        tag("figcaption", title),
        tag("div", y_label, class_="y-label") if y_label != title else None,  # beside the axis it might not fit
        tag("div", class_="plot", role="img", aria_label=f"{title}. {summary}"),
        tag("script", data, type="application/json"),
        class_="chart",
        data_timing=is_timing,
    )


def _on(xs: Sequence[float], x: Sequence[float], y: Sequence[float]) -> list[float | None]:
    """Return values at all ``xs``, None where the curve has no point."""
    known = dict(zip(x, y, strict=True))
    return [known.get(value) for value in xs]
