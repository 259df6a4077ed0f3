"""Curves of training runs from their stats.jsonl: logits per scale, and the progress of the contrastive task.

The first is figure 2 of the supplement (WACV 2023): mean and standard deviation of D's logits of real and generated
images at each scale over the number of images seen. Any run of ``train.py`` can be plotted; StyleGAN2 has one scale.

    python -m msconD.plots RUN_DIR [RUN_DIR ...]

Requires matplotlib.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import click
import numpy as np

from dnnlib.jsonl import MAX_VALUE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_SIZE_INCH = (4.0, 2.8)
KINDS = {"real": "tab:blue", "fake": "tab:orange"}
HEIGHTS = [2**i for i in range(11)]


class Series(NamedTuple):
    """One statistic of a run over training, arrays of equal length."""

    kimg: np.ndarray
    mean: np.ndarray
    std: np.ndarray


class Run:
    """Statistics of one run.

    Args:
        folder: Run folder that holds stats.jsonl.

    Raises:
        ValueError: It holds none, or one with a damaged line.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "stats.jsonl"
        if not self.path.is_file():
            raise ValueError(f"{self.path} is missing; give the folder of a run that has finished a tick")
        self.name = folder.resolve().name.replace("$", r"\$")  # a pair of $ would begin a formula
        lines = self.path.read_bytes().split(b"\n")[:-1]  # without a line that is still being written
        self.ticks = {number: self._tick(number, line) for number, line in enumerate(lines, start=1)}
        self.diverged: set[int] = set()
        """Numbers of lines with values that are not finite."""

    def _tick(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            tick = json.loads(line)
        except (ValueError, RecursionError):
            tick = None
        if not isinstance(tick, dict):
            raise self._damaged(number, "is not a JSON object")
        return tick

    def _damaged(self, number: int, words: str) -> ValueError:
        return ValueError(f"{self.path}: line {number} {words}; delete that line")

    def _mean_std(self, number: int, name: str) -> tuple[float, float] | None:
        """Return a statistic of one tick, or None if nothing was reported or the values are not finite."""
        entry = self.ticks[number].get(name)
        values = [entry.get(key, "") for key in ("num", "mean", "std")] if isinstance(entry, dict) else [entry]
        if len(values) < 3 or not all(value is None or type(value) in (int, float) for value in values):
            raise self._damaged(number, f"has no number, mean and standard deviation of {name}")
        num, mean, std = (math.nan if value is None or abs(value) > MAX_VALUE else float(value) for value in values)
        if num == 0:
            return None
        if not all(map(math.isfinite, (num, mean, std))):
            self.diverged.add(number)
            return None
        return mean, std

    def series(self, name: str) -> Series | None:
        """Return a statistic by its name, or None if the run never reported it.

        Raises:
            ValueError: A line is damaged.
        """
        rows = []
        for number in (number for number, tick in self.ticks.items() if name in tick):
            kimg, values = self._mean_std(number, "Progress/kimg"), self._mean_std(number, name)
            if kimg is not None and values is not None:
                rows.append((kimg[0], *values))
        return Series(*np.array(rows).T) if rows else None

    def scales(self, prefix: str) -> list[int]:
        """List the heights h, powers of two, of the statistics named ``<prefix>_h<h>``."""
        names = {name for tick in self.ticks.values() for name in tick}
        return [h for h in HEIGHTS if f"{prefix}_h{h}" in names]

    def logits(self, kind: str, h: int) -> Series | None:
        """Return D's logits at height h of ``real`` or ``fake`` images; other methods report the global ones only."""
        found = self.series(f"Loss/scores/{kind}_h{h}")
        return self.series(f"Loss/scores/{kind}") if found is None and h == 1 else found


def plot_logits(runs: Sequence[Run]) -> Figure:
    """Draw figure 2 of the supplement: a row per run, a column per scale, means as lines, deviations as bands."""
    scales = sorted({1}.union(*(run.scales("Loss/scores/real") for run in runs)))
    figure, panels = _panels(len(runs), len(scales), sharey="col")
    for row, run in zip(panels, runs, strict=True):
        for panel, h in zip(row, scales, strict=True):
            found = {kind: run.logits(kind, h) for kind in KINDS}
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
    scales = sorted(set().union(*(run.scales("Con/loss") for run in runs)))
    if not scales:
        return None
    figure, panels = _panels(2, len(scales), sharey="row")
    for column, h in enumerate(scales):
        accuracy_panel, loss_panel = panels[0][column], panels[1][column]
        accuracy_panel.set_title(f"height {h}", fontsize="small")
        accuracy_panel.set_ylim(0, 1)
        for run in runs:
            top1, loss, excess = (run.series(f"Con/{name}_h{h}") for name in ("top1", "loss", "excess"))
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
        runs = [Run(run_dir) for run_dir in run_dirs]
        figures = {"logits": plot_logits(runs), "contrastive": plot_contrastive(runs)}
        outdir.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            if figure is not None:
                _save(figure, outdir / name)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    for run in runs:
        if run.diverged:
            where = f"line {min(run.diverged)}" + (" and others" if len(run.diverged) > 1 else "")
            click.echo(f"{run.path}: {where}: values that are not finite are left out", err=True)


if __name__ == "__main__":
    main()
