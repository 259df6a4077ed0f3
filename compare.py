"""Train several methods with several seeds, score them, and show the results on one page."""

from __future__ import annotations

import contextlib
import functools
import io
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib.click_command import Command
from dnnlib.click_types import MAX_SEED, NumberList
from dnnlib.commands import how_to_run
from dnnlib.console import EXIT_STOPPED, errors_in_one_line
from dnnlib.errors import UserError
from dnnlib.formatting import plural
from train import main as train

if TYPE_CHECKING:
    from comparison.plan import Plan

EXIT_FAILED = 1
MAX_SEEDS = 1000


@dataclass(frozen=True)
class Flags:
    """Values of the flags; ``--help`` says what they mean."""

    data: str | None
    cfgs: str | None
    seeds: tuple[int, ...]
    kimg: int | None
    snapshot_kimg: int | None
    metrics: tuple[str, ...]
    last_metrics: tuple[str, ...]
    small: bool
    scales: tuple[str, ...]
    extra: tuple[str, ...]
    score_extra: tuple[str, ...]
    jobs: int
    slurm: str | None
    slurm_extra: tuple[str, ...]
    draw: bool
    records: Path | None


def parse_seeds(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Read a list of seeds and ranges of seeds, such as 0,2,5-7."""
    seeds = NumberList(MAX_SEED).convert(value, param, ctx)
    if len(set(seeds)) < len(seeds) or len(seeds) > MAX_SEEDS:
        raise click.BadParameter(f"expected up to {MAX_SEEDS} different numbers, got {value[:100]!a}")
    return tuple(seeds)


def parse_names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Split a list at commas."""
    names = tuple(name.strip() for name in (value or "").split(",") if name.strip())
    if value is not None and not names:
        raise click.ClickException(f"{param.opts[0]} is empty: name at least one, or leave the flag out")
    return names


def parse_words(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    """Split as a shell does."""
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise click.BadParameter(f"{error}: {value[:100]!a}") from None


def check_flags(method: str, flags: Sequence[str], data: str, outdir: Path) -> None:
    """Let train.py check the flags of a method in a dry run.

    Raises:
        UserError: It refuses them.
    """
    arguments = [f"--data={data}", f"--outdir={outdir}", "--metrics=none", "--dry-run", *flags]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            train.main(arguments, prog_name="train.py", standalone_mode=False)
    except click.ClickException as error:
        raise UserError(f"{method} cannot be trained: {error.format_message()}") from error


def parse_score_flags(flags: Sequence[str]) -> dict[str, Any]:
    """Let calc_metrics.py read its flags; returns their values by name, and those that were not given.

    Raises:
        UserError: It refuses them, or compare.py sets one of them itself.
    """
    from calc_metrics import calc_metrics

    try:
        context = calc_metrics.make_context("calc_metrics.py", list(flags))
    except click.ClickException as error:
        raise UserError(f"--score-extra: {error.format_message()}") from error
    except click.exceptions.Exit:
        raise UserError("--score-extra sets --help; leave it out") from None
    for name in ("network", "metrics", "data2"):
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise UserError(f"--score-extra sets --{name}, which compare.py sets itself; leave it out")
    return context.params


def run_script(command: click.Command, arguments: list[str]) -> None:
    """Run another script in this process.

    Raises:
        UserError: It failed.
    """
    try:
        command.main(arguments, prog_name=command.name, standalone_mode=False)
    except click.ClickException as error:
        raise UserError(error.format_message()) from error


def work(folder: Path, parent: int | None) -> None:
    """Do what is missing in the folder of one run.

    Raises:
        UserError: It failed.
    """
    from calc_metrics import calc_metrics
    from comparison.work import run_job
    from generate import generate_images

    score, generate = functools.partial(run_script, calc_metrics), functools.partial(run_script, generate_images)
    run_job(folder, score, generate, parent)


@click.command(cls=Command, context_settings={"max_content_width": 120})
@click.option("--outdir", type=click.Path(file_okay=False, path_type=Path), help="Folder of the comparison.")
@click.option("--data", type=click.Path(exists=True), help="Training images: a folder or zip made by dataset_tool.py.")
@click.option("--cfgs", help="Comma-separated methods: name[+option[=value]]...; see docs/comparison.md.")
@click.option("--seeds", callback=parse_seeds, default="0,1,2", show_default=True, help="Seeds of each method.")
@click.option("--kimg", type=click.IntRange(min=1), help="Length of each run in thousands of images.")
@click.option(
    "--snapshot-kimg", type=click.IntRange(min=1), help="Distance of the scored snapshots.  [default: kimg / 8]"
)
@click.option(
    "--metrics", callback=parse_names, default="fd1k_efflite1", show_default=True, help="Comma-separated metrics."
)
@click.option("--last-metrics", callback=parse_names, help="Metrics of the last snapshot of each run alone.")
@click.option("--small", is_flag=True, help="Give every method a capacity and schedule for a CPU, as train.py --small.")
@click.option("--scales", callback=parse_names, help="Train msconD and multiscale once with each of these --scales.")
@click.option("--extra", callback=parse_words, default="", help='Flags of train.py for all methods: "--mirror=1".')
@click.option("--score-extra", callback=parse_words, default="", help="Flags of calc_metrics.py for all metrics.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Runs at once.")
@click.option(
    "--slurm",
    is_flag=False,
    flag_value="slurm",
    type=click.Choice(["slurm", "local"]),
    help="Submit the runs to a cluster through submitit; local is submitit without a cluster.",
)
@click.option(
    "--slurm-extra", callback=parse_words, default="", help='For submitit: "timeout_min=600 gpus_per_node=1".'
)
@click.option("--draw", is_flag=True, help="Only redraw the page from the records in --outdir.")
@click.option(
    "--records",
    type=click.Path(file_okay=False, writable=True, path_type=Path),
    help="Only copy the records in --outdir into this folder, to publish them: without weights and paths.",
)
@click.option("--run-job", type=click.Path(exists=True, path_type=Path), hidden=True)
@click.option("--parent", type=int, hidden=True)
@errors_in_one_line()
def main(run_job: Path | None, parent: int | None, outdir: Path | None, **values: Any) -> None:
    """Train several methods with several seeds, score them, and show the results on one page.

    \b
    Examples:
      python compare.py --data=scenes.zip --outdir=runs/compare --cfgs=stylegan2+diffaug,msconD --kimg=200 --small
      python compare.py --outdir=runs/compare --draw
      python compare.py --outdir=runs/compare --records=evidence

    Writes comparison.html and comparison.md in --outdir. The same command again goes on after an interruption, does
    nothing twice, and takes in more methods, seeds, metrics or kimg. See docs/comparison.md.
    """  # noqa: D301 -- click needs the control character
    if run_job is not None:
        work(run_job, parent)
        return
    if outdir is None:
        raise UserError("--outdir is missing: the folder of the comparison")
    from comparison.plan import read_plan

    outdir, flags = outdir.absolute(), Flags(**values)
    if flags.draw and flags.records is not None:
        raise UserError("--draw and --records: choose one; the copy of the records is drawn, too")
    if flags.slurm_extra and flags.slurm is None:
        raise UserError("--slurm-extra has no effect without --slurm; add it, or leave both out")
    if flags.draw:
        for path in draw(read_plan(outdir), {}):
            click.echo(f"Wrote {path}")
        return
    if flags.records is not None:
        publish(outdir, flags.records)
        return
    plan = make_plan(outdir, flags)
    if plan.left_out:
        click.echo(f"Not on the page, because --cfgs and --seeds do not name them: {', '.join(plan.left_out)}")
    compare(plan, flags)


def publish(outdir: Path, dest: Path) -> None:
    """Copy the records of a comparison, and draw the copy.

    Raises:
        UserError: The folder will not do, or a record cannot be read.
    """
    from comparison.plan import read_plan
    from comparison.publication import copy_records

    files = copy_records(read_plan(outdir), dest)
    draw(read_plan(dest), {})
    again = how_to_run("compare.py", f"--outdir={dest}", "--draw")
    click.echo(f"Wrote {len(files) + 2} files to {dest}; to draw its page again: {again}")


def make_plan(outdir: Path, flags: Flags) -> Plan:
    """Check everything, then write the manifests of all runs.

    Raises:
        UserError: Something is missing, cannot be trained, or contradicts runs that exist.
    """
    from comparison.checks import check_metrics
    from comparison.plan import plan_runs

    if flags.data is None or flags.cfgs is None or flags.kimg is None:
        raise UserError("give --data, --cfgs and --kimg; or --draw to draw what there is in --outdir")
    score_flags = parse_score_flags(flags.score_extra)
    check_metrics([*flags.metrics, *flags.last_metrics], score_flags, flags.data)
    return plan_runs(
        outdir,
        data=str(Path(flags.data).absolute()),
        cfgs=flags.cfgs,
        scales=flags.scales,
        seeds=flags.seeds,
        kimg=flags.kimg,
        snapshot_kimg=flags.snapshot_kimg,
        metrics=flags.metrics,
        last_metrics=flags.last_metrics,
        flags=["--small"] * flags.small + list(flags.extra),
        score_flags=list(flags.score_extra),
        check=check_flags,
    )


def compare(plan: Plan, flags: Flags) -> None:
    """Do what is missing, and draw."""
    from comparison.executors import choose_executor, job_command
    from comparison.runner import InterruptedRunsError, run_all

    script = Path(__file__).absolute()
    executor = choose_executor(plan.outdir, flags.slurm, flags.slurm_extra, flags.jobs)
    num_at_once = len(plan.jobs) if flags.slurm == "slurm" else flags.jobs
    try:
        failures = run_all(
            plan.jobs,
            executor,
            command=lambda folder: job_command(script, folder),
            num_at_once=num_at_once,
            redraw=lambda failures: draw(plan, failures),
        )
    except InterruptedRunsError:
        draw(plan, {})
        click.echo("Stopped; run the same command again to go on")
        raise SystemExit(EXIT_STOPPED) from None
    for path in draw(plan, failures):
        click.echo(f"Wrote {path}")
    if failures:
        failed = f"{len(failures)} of {plural(len(plan.jobs), 'run')} failed"
        click.echo(f"{failed}; run the same command to retry them", err=True)
        raise SystemExit(EXIT_FAILED)


def draw(plan: Plan, failures: dict[Path, str]) -> list[Path]:
    """Write the page and the table; returns their paths."""
    from comparison.report import write_report

    return write_report(plan, failures)


if __name__ == "__main__":
    main()
