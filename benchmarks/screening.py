"""Which settings of MsConD matter, from far fewer runs than one setting at a time would take.

``cfgs`` prints configurations for ``compare.py --cfgs``, the rows of a design of Plackett and Burman (1946): every
setting has its other value in half of the runs, and each pair of settings meets in all four combinations equally often.
The last row is the default, of which earlier comparisons may have several seeds. ``effects`` estimates what each
setting does to a score from all runs together, so that its estimate rests on every one of them. Columns that stand for
no setting, and repeated runs of the default, show how large chance is. Effects that depend on other settings are
not told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from comparison.methods import Method
from comparison.plan import read_plan
from comparison.records import RunValue
from comparison.run_values import mean_statistic, second_half
from comparison.statistics import half_width
from comparison.summary import Comparison, collect
from dnnlib.formatting import format_number

CFG = "msconD"
BASE = {"con-max-anchors": "64", "proj-dim": "32"}
"""The narrow projections of all runs at 32 px: those of the preset cost more than such networks."""


@dataclass(frozen=True)
class Design:
    """Settings with their other values, and the runs that tell their effects apart."""

    first_row: str
    """A sign per column, + for the other value; each further row is the one before, moved by one place."""
    factors: tuple[tuple[str, str], ...]
    """A setting and its other value per column; columns without a setting are left over."""

    def levels(self) -> np.ndarray:
        """Return a row per run and a column per sign, bool; the last row is False."""
        first = np.array([sign == "+" for sign in self.first_row])
        return np.stack([*(np.roll(first, row) for row in range(len(first))), np.zeros_like(first)])

    def method(self, levels: Sequence[bool]) -> Method:
        """Return the method of a row."""
        chosen = dict(factor for factor, is_other in zip(self.factors, levels, strict=False) if is_other)
        if "adv-weights" in chosen and "scales" not in chosen:
            chosen["adv-weights"] += ",0.1"
        return Method(CFG, tuple({**BASE, **chosen}.items()))


DESIGNS = {
    "nine": Design(
        "++-+++---+-",
        (
            ("r1-mode", "rademacher"),
            ("gamma", "0.15"),
            ("scales", "1,8"),
            ("con-weight", "0.1"),
            ("con-temp", "0.07"),
            ("con-views", "real"),
            ("con-interval", "4"),
            ("adv-weights", "1,0.1"),
            ("con-pos-dist", "1.5"),
        ),
    ),
    "six": Design(
        "+++-+--",
        (
            ("con-weight", "0.3"),
            ("aug", "ada"),
            ("batch-gpu", "8"),
            ("subset", "2000"),
            ("con-fake-weight", "1"),
            ("proj-dim", "256"),
        ),
    ),
}
"""By the number of settings. The weights of scales are those of GigaGAN (docs/method.md), continued to a third."""


@dataclass(frozen=True)
class Effect:
    """What the other value of a setting adds to a score, all else as it was."""

    name: str
    mean: float
    half_width: float
    """Of the 95 % interval around ``mean``."""


def estimate(levels: np.ndarray, scores: np.ndarray, names: Sequence[str]) -> list[Effect]:
    """Fit a constant and one effect per setting by least squares.

    Args:
        levels: Bool ``[N, K]``.
        scores: Float ``[N]``.
        names: Of the ``K`` settings.

    Raises:
        ValueError: The runs do not suffice to tell the settings apart and to judge their scatter.
    """
    inputs = np.column_stack([np.ones(len(levels)), levels.astype(float)])
    freedom = len(inputs) - inputs.shape[1]
    if freedom < 1 or np.linalg.matrix_rank(inputs) < inputs.shape[1]:
        raise ValueError(f"{len(inputs)} runs do not suffice for {len(names)} settings: run those of all rows")
    coefficients = np.linalg.lstsq(inputs, scores, rcond=None)[0]
    variance = float(((scores - inputs @ coefficients) ** 2).sum()) / freedom
    errors = np.sqrt(variance * np.diag(np.linalg.inv(inputs.T @ inputs)))
    return [
        Effect(name, float(mean), half_width(float(error), freedom))
        for name, mean, error in zip(names, coefficients[1:], errors[1:], strict=True)
    ]


def read_scores(design: Design, folders: Sequence[Path], score: str) -> tuple[np.ndarray, np.ndarray]:
    """Collect the levels ``[N, K]``, a column per sign, and scores ``[N]`` of all runs of the design in comparisons.

    A score is the mean over the second half of training; of longer runs, over the same snapshots. What has a slash in
    its name is a statistic of ``stats.jsonl``.
    """
    rows = {design.method(levels).label: levels for levels in design.levels()}
    comparisons = [collect(read_plan(folder), {}) for folder in folders]
    methods = [each for found in comparisons for each in found.methods if each.method.label in rows]
    merged = Comparison(methods, [score], min(found.snapshot_kimg for found in comparisons))
    mean = _mean_statistic(merged, score) if "/" in score else second_half(merged, score)
    found = [(rows[each.method.label], value.number) for each in methods for value in each.cell(mean).values]
    if not found:
        raise ValueError(f"the runs of the design have no snapshot in common that {score} was computed for")
    levels, scores = zip(*found, strict=True)
    return np.stack(levels), np.array(scores)


def _mean_statistic(comparison: Comparison, name: str) -> RunValue:
    runs = [run for each in comparison.methods for run in each.runs]
    return mean_statistic(name, min(run.ticks[-1].kimg for run in runs))


DESIGN = click.option(
    "--design",
    callback=lambda _ctx, _param, name: DESIGNS[name],
    type=click.Choice(list(DESIGNS)),
    default="nine",
    show_default=True,
    help="Which settings to screen, by their number.",
)


@click.group()
def main() -> None:
    """Screen the settings of MsConD."""


@main.command()
@DESIGN
def cfgs(design: Design) -> None:
    """Print the rows of the design but the last, for --cfgs."""
    click.echo(",".join(design.method(levels).label for levels in design.levels()[:-1]))


@main.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@DESIGN
@click.option(
    "--score",
    default="fd1k_efflite1",
    show_default=True,
    help="A score, as in comparison.md, or a statistic such as Health/diversity.",
)
def effects(folders: tuple[Path, ...], design: Design, score: str) -> None:
    """Print what each setting adds to a score, from all comparisons."""
    try:
        levels, scores = read_scores(design, folders, score)
        names = [f"{name}={value}" for name, value in design.factors]
        found = estimate(levels[:, : len(names)], scores, names)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{len(scores)} runs, mean {format_number(scores.mean())}; 95 % intervals")
    for effect in found:
        mark = "  <- excludes zero" if abs(effect.mean) > effect.half_width else ""
        click.echo(f"{effect.name:22s} {effect.mean:+9.3g} +- {effect.half_width:.2g}{mark}")


if __name__ == "__main__":
    main()
