"""The curves of one run or several, in sections; what a run has not reported is left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dnnlib.formatting import format_number
from training.run.heights import split_height
from training.run.page.charts import Line, chart
from training.run.page.html import Html, tag
from training.run.page.records import Curve, RunRecords

X_LABEL = "real images seen, thousands"
KNOWN_GROUPS = ("Loss", "Progress", "Timing", "Resources", "Health", "Metrics")
MAX_METHOD_CHARTS = 40
MAX_SCORE_CHARTS = 20


@dataclass(frozen=True)
class Panel:
    """A chart: its title, the label of its values, and which statistics it shows under which names."""

    title: str
    y_label: str
    statistics: tuple[tuple[str, str], ...]
    has_band: bool = False
    """Whether the standard deviation is shown around the mean."""


TRAINING = (
    Panel("Losses", "loss", (("Loss/G/loss", "generator"), ("Loss/D/loss", "discriminator"))),
    Panel(
        "How sure the discriminator is",
        "mean sign of logits",
        (("Loss/signs/real", "real"), ("Loss/signs/fake", "generated")),
    ),
    Panel("Augmentation probability", "p", (("Progress/augment", "p"),)),
    Panel("Gradient penalty (R1)", "penalty", (("Loss/r1_penalty", "R1"),)),
    Panel("Path-length penalty", "penalty", (("Loss/pl_penalty", "path length"),)),
)
HEALTH = (
    Panel("Diversity of samples", "relative to real images", (("Health/diversity", "diversity"),)),
    Panel(
        "Distance to the nearest training image",
        "relative to training images",
        (("Health/nearest_real", "distance"),),
    ),
    Panel("Distance to augmented images", "relative to real images", (("Health/leak", "distance"),)),
)
COST = (
    Panel("Seconds per thousand images", "seconds", (("Timing/sec_per_kimg", "training alone"),)),
    Panel(
        "Memory",
        "GiB",
        (("Resources/cpu_mem_gb", "of the process"), ("Resources/peak_gpu_mem_gb", "of the GPU, peak")),
    ),
)


def score_section(runs: Sequence[RunRecords]) -> Html | None:
    """Draw the scores of the snapshots."""
    charts = []
    for name in list(dict.fromkeys(name for run in runs for name in run.scores))[:MAX_SCORE_CHARTS]:
        lines = [
            Line(run.name if len(runs) > 1 else name, *_columns(run.scores[name]), color=color)
            for color, run in enumerate(runs)
            if name in run.scores
        ]
        charts.append(chart(name, X_LABEL, name, lines, _summary(lines)))
    return _section("Scores", charts, "pair")


def _columns(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [kimg for kimg, _value in points], [value for _kimg, value in points]


def training_section(runs: Sequence[RunRecords]) -> Html | None:
    """Draw losses, signs, augmentation and penalties."""
    return _section("Training", _draw_all(runs, TRAINING), "triple")


def logit_section(runs: Sequence[RunRecords]) -> Html | None:
    """Draw logits of real and generated images, mean and standard deviation, by the height of the feature map."""
    names = (split_height(name) for run in runs for name in run.curves)
    heights = sorted({h for base, h in names if base == "Loss/scores/real" and h is not None})
    titles = {f"_h{h}": f"Height {h}" for h in heights} or {"": "Whole images"}
    panels = [
        Panel(
            title,
            "logits",
            ((f"Loss/scores/real{suffix}", "real"), (f"Loss/scores/fake{suffix}", "generated")),
            has_band=True,
        )
        for suffix, title in titles.items()
    ]
    return _section("Logits by scale", _draw_all(runs, panels[:MAX_METHOD_CHARTS]), "triple")


def method_section(runs: Sequence[RunRecords]) -> Html | None:
    """Draw what methods report beyond StyleGAN2, one chart for all heights of a statistic."""
    panels: dict[str, list[str]] = {}
    for name in sorted({name for run in runs for name in run.curves}):
        if "/" in name and name.partition("/")[0] not in KNOWN_GROUPS:
            panels.setdefault(split_height(name)[0], []).append(name)
    charts = _draw_all(
        runs,
        [
            Panel(
                base,
                base.partition("/")[2],
                tuple((name, _method_label(name)) for name in sorted(names, key=_height)),
            )
            for base, names in list(panels.items())[:MAX_METHOD_CHARTS]
        ],
    )
    return _section("Method", charts, "triple")


def _method_label(name: str) -> str:
    base, height = split_height(name)
    return base.partition("/")[2] if height is None else f"height {height}"


def _height(name: str) -> int:
    return split_height(name)[1] or 0


def health_section(runs: Sequence[RunRecords]) -> Html | None:
    """Draw what is measured on the samples."""
    return _section("What the samples are like", _draw_all(runs, HEALTH), "triple")


def cost_section(runs: Sequence[RunRecords]) -> Html | None:
    """Draw time and memory."""
    return _section("Time and memory", _draw_all(runs, COST), "pair")


def _section(title: str, charts: Sequence[Html], class_: str) -> Html | None:
    return tag("section", tag("h2", title), tag("div", *charts, class_=class_)) if charts else None


def _draw_all(runs: Sequence[RunRecords], panels: Sequence[Panel]) -> list[Html]:
    return [drawn for panel in panels if (drawn := _draw(runs, panel)) is not None]


def _draw(runs: Sequence[RunRecords], panel: Panel) -> Html | None:
    lines = list(_lines(runs, panel))
    if not lines:
        return None
    return chart(panel.title, X_LABEL, panel.y_label, lines, _summary(lines))


def _lines(runs: Sequence[RunRecords], panel: Panel) -> Iterator[Line]:
    """Yield the curves: of one run, each in a color; of several, each run in one, its curves with other dashes."""
    for number, run in enumerate(runs):
        for position, (statistic, label) in enumerate(panel.statistics):
            curve = run.curves.get(statistic)
            if curve is None or (set(curve.mean) == {0.0} and position):  # such as the GPU's memory on a CPU
                continue
            single = len(runs) == 1
            color, dash = (position, 0) if single else (number, min(position, 2))
            low, high = _band(curve) if panel.has_band and single else ((), ())
            name = label if single else f"{run.name}, {label}"
            yield Line(name, curve.kimg, curve.mean, low, high, color, dash)


def _band(curve: Curve) -> tuple[list[float], list[float]]:
    pairs = list(zip(curve.mean, curve.std, strict=True))
    return [float(f"{mean - std:.5g}") for mean, std in pairs], [float(f"{mean + std:.5g}") for mean, std in pairs]


def _summary(lines: Sequence[Line]) -> str:
    return "; ".join(f"{line.label} ends at {format_number(line.y[-1])}" for line in lines)
