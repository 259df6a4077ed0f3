"""Curves of training runs from their stats.jsonl: logits per scale, and how the contrastive task is going.

The first is figure 2 of the supplement (WACV 2023): mean and standard deviation of D's logits of real and generated
images at each scale over the images seen. Any run of ``train.py`` can stand beside the others; StyleGAN2 has one scale.

    python -m msconD.plots RUN_DIR [RUN_DIR ...]

Needs matplotlib: ``pip install '.[plots]'``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import click
import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_SIZE_INCH = (4.0, 2.8)
KINDS = {"real": "tab:blue", "fake": "tab:orange"}


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
        ValueError: It holds none, or a damaged one.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "stats.jsonl"
        if not path.is_file():
            raise ValueError(f"{folder}: no stats.jsonl there; name the folder of a run that has finished a tick")
        self.name = folder.resolve().name
        self.ticks: list[dict[str, Any]] = []
        for number, line in enumerate(path.read_text().splitlines(keepends=True), start=1):
            if not line.endswith("\n"):
                break  # still being written
            try:
                self.ticks.append(json.loads(line))
            except json.JSONDecodeError as err:
                raise ValueError(f"{path}: line {number} is not JSON ({err}); delete that line") from None

    def series(self, name: str) -> Series | None:
        """Return a statistic by its name, or None if the run never reported it."""
        ticks = [tick for tick in self.ticks if tick.get(name, {}).get("num", 0) > 0]
        if not ticks:
            return None
        kimg = [tick["Progress/kimg"]["mean"] for tick in ticks]
        return Series(np.array(kimg), *(np.array([tick[name][key] for tick in ticks]) for key in ("mean", "std")))

    def scales(self, prefix: str) -> list[int]:
        """List the heights h of statistics named ``<prefix>_h<h>``."""
        names = {name for tick in self.ticks for name in tick}
        return sorted(int(match[1]) for name in names if (match := re.fullmatch(re.escape(prefix) + r"_h(\d+)", name)))

    def logits(self, kind: str, h: int) -> Series | None:
        """Return D's logits at height h of ``real`` or ``fake`` images; other methods report the global ones only."""
        found = self.series(f"Loss/scores/{kind}_h{h}")
        return self.series(f"Loss/scores/{kind}") if found is None and h == 1 else found


def plot_logits(runs: Sequence[Run]) -> Figure:
    """Draw figure 2 of the supplement: a row per run, a column per scale, lines for means, bands for deviations."""
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
    panels[0][0].legend(fontsize="small")
    return figure


def plot_contrastive(runs: Sequence[Run]) -> Figure | None:
    """Draw accuracy and loss of the contrastive task, a column per scale, a line per run; None if no run has any.

    Accuracy is how often an anchor's nearest candidate is a positive. Dotted is the loss of guessing.
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
            loss_panel.plot(loss.kimg, loss.mean - excess.mean, color=line.get_color(), linestyle=":", linewidth=1)
    panels[0][0].set_ylabel("contrastive accuracy")
    panels[1][0].set_ylabel("contrastive loss (dotted: guessing)")
    panels[0][0].legend(fontsize="small")
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


def _save(figure: Figure, path: Path) -> None:
    for suffix in (".png", ".svg"):
        figure.savefig(path.with_suffix(suffix), dpi=150)
        click.echo(path.with_suffix(suffix))


@click.command()
@click.argument("run_dirs", metavar="RUN_DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--outdir", metavar="DIR", type=click.Path(path_type=Path), help="Where to draw to.  [first RUN_DIR]")
def main(run_dirs: tuple[Path, ...], outdir: Path | None) -> None:
    """Draw D's logits at each scale (logits.png) and how contrastive learning goes (contrastive.png), as SVG too."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise click.ClickException("matplotlib is not installed; pip install '.[plots]'") from None
    try:
        runs = [Run(run_dir) for run_dir in run_dirs]
    except ValueError as err:
        raise click.ClickException(str(err)) from None
    outdir = outdir or run_dirs[0]
    outdir.mkdir(parents=True, exist_ok=True)
    _save(plot_logits(runs), outdir / "logits")
    contrastive = plot_contrastive(runs)
    if contrastive is not None:
        _save(contrastive, outdir / "contrastive")


if __name__ == "__main__":
    main()
