"""The commands on the page of a run: to train it further, draw its images, score it, compare it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from dnnlib.commands import how_to_run
from dnnlib.jsonl import finite
from training.checkpoint_names import list_checkpoints
from training.run.best import BEST_SNAPSHOT
from training.run.folder import read_spent_sec
from training.run.lookup import generate_command, is_checkpoint, newest_networks
from training.run.page.records import RunRecords
from training.run.time_plan import flag_to_train_longer

CHEAP_METRIC = "fd1k_efflite1"
"""Suggested for runs without metrics of their own; a CPU computes it in minutes."""
SIZE_FLAGS = {
    "--cbase": "G_kwargs.synthesis_kwargs.channel_base",
    "--cmax": "G_kwargs.synthesis_kwargs.channel_max",
    "--map-depth": "G_kwargs.mapping_kwargs.num_layers",
}
"""Flags of ``train.py`` without which networks of another run may not fit, and the options that they set."""


def next_commands(run: RunRecords) -> Iterator[tuple[str, str]]:
    """Yield purposes, and the command for each."""
    newest, best = newest_networks(run.folder), run.folder / BEST_SNAPSHOT
    has_labels = bool(run.settings("training_set_kwargs").get("use_labels"))
    if run.state == "diverged":  # continued as it is, it would diverge again
        saved = list_checkpoints(run.folder)[-1:]
        yield (
            "Start another run (with its --cfg and other settings)",
            how_to_run("train.py", *_starting_from(run, *saved)),
        )
    elif run.can_continue:
        limit_sec = finite(run.options.get("time_limit_sec"))
        total_kimg = finite(run.options.get("total_kimg")) or run.total_kimg  # not the length that --time has planned
        spent_sec = read_spent_sec(run.folder)
        is_finished = run.state == "finished"
        longer = [flag_to_train_longer(run.kimg, total_kimg, limit_sec, spent_sec)] if is_finished else []
        command = how_to_run("train.py", f"--continue={run.folder}", *longer)
        yield "Train further" if is_finished else "Continue", command
    elif newest is not None and not is_checkpoint(str(newest)):
        command = how_to_run("train.py", *_starting_from(run, newest))
        yield "Start another run from its networks (with its --cfg)", command
    if newest is not None:
        yield "Generate images", generate_command(newest, has_labels)
        yield "Score", how_to_run("calc_metrics.py", f"--network={newest}", *_scoring(run))
    if best.is_file():
        yield "Generate images with the best snapshot", generate_command(best, has_labels)
    yield "Compare with another run", how_to_run("report.py", str(run.folder), "OTHER_RUN", "--out=comparison.html")
    if any(run.folder.glob("events.out.tfevents.*")):
        yield "All statistics", f"tensorboard {shlex.quote(f'--logdir={run.folder}')}"


def _starting_from(run: RunRecords, *networks: Path) -> Iterator[str]:
    """Yield the flags of a new run on the same images, except ``--cfg``, which the options do not contain.

    Args:
        run: The old run.
        networks: What it starts from, if anything.
    """
    dataset, options = run.settings("training_set_kwargs"), dict(run.flat_options())
    yield f"--outdir={run.folder.absolute().parent}"
    yield f"--data={dataset.get('path', 'DATA')}"
    if dataset.get("use_labels"):
        yield "--cond=1"
    yield from (f"{flag}={options[name]}" for flag, name in SIZE_FLAGS.items() if name in options)
    yield from (f"--resume={each}" for each in networks)


def _scoring(run: RunRecords) -> Iterator[str]:
    """Yield the flags with which a run scores itself, if it does."""
    metrics = run.options.get("metrics")
    known = metrics if isinstance(metrics, list) and metrics else [CHEAP_METRIC]
    yield f"--metrics={','.join(map(str, known))}"
    if (path := run.settings("metric_set_kwargs").get("path")) is not None:
        yield f"--metricdata={path}"
    if (detector := run.options.get("object_detector")) is not None:
        yield f"--object-detector={detector}"
