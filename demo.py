"""The whole workflow on a CPU in a few minutes: draw scenes, train on them, generate images, score them."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import PIL.Image
import PIL.ImageDraw

from dnnlib.click_command import Command
from dnnlib.commands import how_to_run
from dnnlib.console import EXIT_STOPPED
from dnnlib.errors import UserError
from metrics.results import read_snapshot_results, results_file
from training.data.grid import write_png
from training.inference.options import errors_in_one_line
from training.run.folder import find_run_dir, is_run, runs_by_age
from training.run.names import GRIDS, REALS_FILE, SNAPSHOTS, find_grids, list_snapshots
from training.run.options_file import read_options

RESOLUTION_PX = 32
NUM_SCENES = 4000
METRIC = "fd1k_efflite1"
UNKNOWN = "unknown"
TRAINING_FLAGS = [
    "--cfg=msconD-demo",
    "--aug=noaug",
    "--con-max-anchors=64",
    "--proj-dim=32",
    "--tick=1",
    "--snap=5",
    "--metrics=none",
    "--state-minutes=1",
    "--workers=1",
]
"""In addition to the preset: no augmentation, as there are enough scenes, and a cheap contrastive task."""
SHIPPED, SHIPPED_KIMG, SHIPPED_PX = "scenes32", 288, 32
"""The generator that comes with the repository (training/snapshots/scenes32/README.md)."""
COLUMNS, ROWS, CELL_PX = 12, 6, 64
"""Layout of a panel of the final picture."""
CAPTION_PX, GAP_PX = 28, 16


class Panel(NamedTuple):
    """A part of the picture at the end."""

    caption: str
    grid: Path
    """At least `COLUMNS` times `ROWS` square images without margins."""
    side_px: int
    """Side of one image."""


def run_python(*arguments: str) -> int:
    """Run a script or module of this repository as a user would, showing the command; returns its exit status."""
    split = 2 if arguments[0] == "-m" else 1
    script, flags = " ".join(arguments[:split]), arguments[split:]
    print(f"\n$ {how_to_run(script, *flags)}", flush=True)
    try:
        return subprocess.run([sys.executable, *arguments], cwd=Path(__file__).parent, check=False).returncode
    except KeyboardInterrupt:  # the script receives Ctrl-C too, and saves what it must
        return EXIT_STOPPED


def must_run(*arguments: str) -> None:
    """Run a command and end the demo unless it succeeds."""
    status = run_python(*arguments)
    if status == EXIT_STOPPED:
        raise click.ClickException("stopped; run the same command again to continue")
    if status != 0:
        raise click.ClickException(f"{arguments[0]} failed with exit status {status}")


def train(outdir: Path, kimg: int) -> Path:
    """Train, or continue the run of an earlier call; returns the run folder."""
    data = outdir / "scenes.zip"
    is_begun = any(map(is_run, runs_by_age(outdir)))
    if is_begun:
        check_own(find_run_dir("latest", outdir), data)
    if not data.exists():
        size = [f"--max-images={NUM_SCENES}", f"--width={RESOLUTION_PX}", f"--height={RESOLUTION_PX}"]
        must_run("dataset_tool.py", "--source=scenes", f"--dest={data}", *size)
    if is_begun:
        must_run("train.py", "--continue=latest", f"--outdir={outdir}", f"--kimg={kimg}")
    else:
        must_run("train.py", f"--outdir={outdir}", f"--data={data}", f"--kimg={kimg}", *TRAINING_FLAGS)
    return find_run_dir("latest", outdir)


def check_own(run_dir: Path, data: Path) -> None:
    """Refuse to continue a run of other data: it is somebody's training, not that of an earlier call.

    Raises:
        UserError: The run is not of ``data``, or what it is of cannot be read.
    """
    dataset = read_options(run_dir).get("training_set_kwargs")
    path = dataset.get("path") if isinstance(dataset, dict) else None
    if not isinstance(path, str) or Path(path).resolve() != data.resolve():
        raise UserError(f"{run_dir} is not a run of this demo, which trains on {data}: choose another --outdir")


def require_files(run_dir: Path, what: str, found: list[Path], minimum: int) -> list[Path]:
    """Return the files of a run that the demo shows.

    Raises:
        UserError: There are fewer than ``minimum``.
    """
    if len(found) < minimum:
        needed = f"the demo needs at least {minimum}; start again in another --outdir"
        raise UserError(f"{run_dir}: files {what}: {len(found)}, {needed}")
    return found


def draw_panels(panels: list[Panel], path: Path) -> None:
    """Draw the first images of several grids, enlarged, two grids in a row, a caption above each.

    Args:
        panels: The grids, row by row.
        path: The PNG to write.
    """
    width, height = COLUMNS * CELL_PX, ROWS * CELL_PX
    sheet = PIL.Image.new("RGB", (2 * width + GAP_PX, (height + CAPTION_PX) * math.ceil(len(panels) / 2)), "white")
    for i, panel in enumerate(panels):
        x, y = i % 2 * (width + GAP_PX), i // 2 * (height + CAPTION_PX)
        with PIL.Image.open(panel.grid) as grid:
            images = grid.convert("RGB").crop((0, 0, COLUMNS * panel.side_px, ROWS * panel.side_px))
        sheet.paste(images.resize((width, height), PIL.Image.Resampling.NEAREST), (x, y + CAPTION_PX))
        PIL.ImageDraw.Draw(sheet).text((x + 4, y + 4), panel.caption, "black", font_size=CAPTION_PX - 12)
    write_png(np.asarray(sheet), path)


def score(snapshot: Path) -> str:
    """Score a snapshot, unless an earlier call has done it; returns the value as text."""
    if (value := recorded_score(snapshot)) is None:
        run_python("calc_metrics.py", f"--metrics={METRIC}", f"--network={snapshot}")
        value = recorded_score(snapshot)
    return UNKNOWN if value is None else f"{value:.0f}"


def recorded_score(snapshot: Path) -> float | None:
    """Look up a score in the run folder."""
    record = read_snapshot_results(results_file(snapshot.parent, METRIC)).get(snapshot.name)
    return None if record is None else record.values.get(METRIC)


@click.command(cls=Command)
@click.option(
    "--outdir",
    type=click.Path(file_okay=False, writable=True, path_type=Path),
    default=Path("runs/demo"),
    show_default=True,
)
@click.option(
    "--kimg", type=click.IntRange(min=1), default=24, show_default=True, help="Training length in thousands of images."
)
@errors_in_one_line()
def main(outdir: Path, kimg: int) -> None:
    """Train on drawn street scenes and generate images; run the command again to continue."""
    outdir = outdir.absolute()
    outdir.mkdir(parents=True, exist_ok=True)
    run_dir = train(outdir, kimg)
    snapshots = {path: done_kimg for done_kimg, path in list_snapshots(run_dir)}
    first, *_, snapshot = require_files(run_dir, SNAPSHOTS, list(snapshots), 2)
    done_kimg = round(snapshots[snapshot])
    grids = [path for name, path in find_grids(run_dir) if not name.is_initial]
    newest = require_files(run_dir, GRIDS, grids, 1)[-1]
    generated = run_dir / "generated"
    must_run("generate.py", f"--network={snapshot}", "--seeds=0-31", "--trunc=0.8", "--grid", f"--outdir={generated}")
    has_plots = importlib.util.find_spec("matplotlib") is not None
    if has_plots:
        run_python("-m", "msconD.plots", str(run_dir))
    before, after = score(first), score(snapshot)
    shipped = run_dir / "shipped"
    seeds = f"--seeds=0-{COLUMNS * ROWS - 1}"
    must_run("generate.py", f"--network={SHIPPED}", seeds, f"--grid={COLUMNS}x{ROWS}", f"--outdir={shipped}")
    figure = run_dir / "before_after.png"
    caption = f"{SHIPPED}, which comes with the repository, {SHIPPED_KIMG} kimg"
    panels = [
        Panel("real scenes", run_dir / REALS_FILE, RESOLUTION_PX),
        Panel("before training", run_dir / "fakes_init.png", RESOLUTION_PX),
        Panel(f"this demo, {done_kimg} kimg", newest, RESOLUTION_PX),
        Panel(caption, shipped / "grid.png", SHIPPED_PX),
    ]
    draw_panels(panels, figure)
    print(f"\nReal scenes, and samples before and after training:  {figure}")
    if (before, after) != (UNKNOWN, UNKNOWN):
        print(f"{METRIC} of these, lower is better:     {before}, {after}")
    print(f"Sample grid:                                   {newest}")
    print(f"Snapshot, for all the other scripts:           {snapshot}")
    print(f"Page of the run, with its curves:              {run_dir / 'report.html'}")
    if has_plots:
        print(f"Logits per scale over training:                {run_dir / 'logits.png'}")
    print(f"Generated images:                              {generated}")
    print(f"To train longer: {how_to_run('demo.py', f'--outdir={outdir}', f'--kimg={2 * done_kimg}')}")


if __name__ == "__main__":
    main()
