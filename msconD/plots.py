"""Curves of training runs from their stats.jsonl: logits per scale, and the progress of the contrastive task.

The first is figure 2 of the supplement (WACV 2023): mean and standard deviation of D's logits of real and generated
images at each scale over the number of images seen. Any run of ``train.py`` can be plotted; StyleGAN2 has one scale.

    python -m msconD.plots RUN_DIR [RUN_DIR ...]

Requires matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import click
import numpy as np

from training.run.heights import heights, logit_heights, logits
from training.run.stats_file import STATS_FILE, Series, measured, read_series, read_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_SIZE_INCH = (4.0, 2.8)
KINDS = {"real": "tab:blue", "fake": "tab:orange"}
PLOTTED = ("Loss/scores/", "Con/")
"""Beginnings of the names of what is plotted."""


class Run(NamedTuple):
    """Statistics of one run."""

    name: str
    series: dict[str, Series]
    """By the names of the statistics."""
    left_out: list[int]
    """Numbers of the lines that are damaged, or in which something that is plotted is damaged or not finite."""


def read_run(folder: Path) -> Run:
    """Read the statistics of a run.

    Raises:
        ValueError: The folder has none.
    """
    path = folder / STATS_FILE
    if not path.is_file():
        raise ValueError(f"{path} is missing; give the folder of a run that has finished a tick")
    name = folder.resolve().name.replace("$", r"\$")  # a pair of $ would begin a formula
    return Run(name, read_series(folder), _left_out(folder))


def _left_out(folder: Path) -> list[int]:
    numbers: list[int] = []
    next_number = 1
    for tick in read_ticks(folder):
        numbers += range(next_number, tick.number)
        if any(_is_damaged(tick.line, name) for name in tick.line if name.startswith(PLOTTED)):
            numbers.append(tick.number)
        next_number = tick.number + 1
    return numbers


def _is_damaged(line: dict[str, Any], name: str) -> bool:
    is_empty = isinstance(line[name], dict) and line[name].get("num") == 0
    return not is_empty and measured(line, name) is None


def plot_logits(runs: Sequence[Run]) -> Figure:
    """Draw figure 2 of the supplement: a row per run, a column per scale, means as lines, deviations as bands."""
    scales = logit_heights(name for run in runs for name in run.series)
    figure, panels = _panels(len(runs), len(scales), sharey="col")
    for row, run in zip(panels, runs, strict=True):
        for panel, h in zip(row, scales, strict=True):
            found = {kind: logits(run.series, kind, h) for kind in KINDS}
            if not any(found.values()):
                panel.set_axis_off()
                continue
            for kind, series in found.items():
                if series is not None:
                    panel.plot(series.kimg, series.mean, color=KINDS[kind], linewidth=2, label=kind)
                    low, high = series.mean - series.std, series.mean + series.std
                    panel.fill_between(series.kimg, low, high, color=KINDS[kind], alpha=0.2, linewidth=0)
            panel.set_title(f"$D^{{{h}}}$   {run.name}", fontsize="small")
        row[0].set_ylabel("logits")
    _add_legend(panels[0][0])
    return figure


def plot_contrastive(runs: Sequence[Run]) -> Figure | None:
    """Draw accuracy and loss of the contrastive task, a column per scale, a line per run; None if no run has any.

    Accuracy is how often the nearest key of a query is a positive. The dotted line is the loss of guessing.
    """
    scales = heights((name for run in runs for name in run.series), "Con/loss")
    if not scales:
        return None
    figure, panels = _panels(2, len(scales), sharey="row")
    for column, h in enumerate(scales):
        accuracy_panel, loss_panel = panels[0][column], panels[1][column]
        accuracy_panel.set_title(f"height {h}", fontsize="small")
        accuracy_panel.set_ylim(0, 1)
        for run in runs:
            top1, loss, excess = (run.series.get(f"Con/{name}_h{h}") for name in ("top1", "loss", "excess"))
            if top1 is None or loss is None or excess is None:
                continue
            (line,) = accuracy_panel.plot(top1.kimg, top1.mean, label=run.name)
            loss_panel.plot(loss.kimg, loss.mean, color=line.get_color())
            kimg, i, j = np.intersect1d(loss.kimg, excess.kimg, return_indices=True)
            loss_panel.plot(kimg, loss.mean[i] - excess.mean[j], color=line.get_color(), linestyle=":", linewidth=1)
    panels[0][0].set_ylabel("contrastive accuracy")
    panels[1][0].set_ylabel("contrastive loss (dotted: guessing)")
    _add_legend(panels[0][0])
    return figure


def _panels(num_rows: int, num_columns: int, sharey: Literal["row", "col"]) -> tuple[Figure, list[list[Axes]]]:
    """Make an empty figure whose panels share the x axis, and in rows or columns the y axis."""
    from matplotlib.figure import Figure

    width, height = PANEL_SIZE_INCH
    figure = Figure(figsize=(width * num_columns, height * num_rows), layout="constrained")
    panels = figure.subplots(num_rows, num_columns, squeeze=False, sharex=True, sharey=sharey).tolist()
    for panel in panels[-1]:
        panel.set_xlabel("real images seen, thousands")
    for panel in (panel for row in panels for panel in row):
        panel.grid(alpha=0.3)
    return figure, panels


def _add_legend(panel: Axes) -> None:
    if panel.get_legend_handles_labels()[0]:
        panel.legend(fontsize="small")


def _save(figure: Figure, path: Path) -> None:
    for suffix in (".png", ".svg"):
        figure.savefig(path.with_suffix(suffix), dpi=150)
        click.echo(path.with_suffix(suffix))


@click.command()
@click.argument("run_dirs", metavar="RUN_DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--outdir", metavar="DIR", type=click.Path(path_type=Path), help="Folder for the plots.  [default: first RUN_DIR]"
)
def main(run_dirs: tuple[Path, ...], outdir: Path | None) -> None:
    """Plot D's logits per scale (logits.png) and the progress of the contrastive task (contrastive.png), as SVG too."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise click.ClickException("matplotlib is not installed: pip install matplotlib") from None
    outdir = outdir or run_dirs[0]
    try:
        runs = [read_run(run_dir) for run_dir in run_dirs]
        figures = {"logits": plot_logits(runs), "contrastive": plot_contrastive(runs)}
        outdir.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            if figure is not None:
                _save(figure, outdir / name)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    for run_dir, run in zip(run_dirs, runs, strict=True):
        if run.left_out:
            where = f"line {run.left_out[0]}" + (" and others" if len(run.left_out) > 1 else "")
            what = "what is damaged or not finite is left out"
            click.echo(f"{run_dir / STATS_FILE}: {where}: {what}", err=True)


if __name__ == "__main__":
    main()
