"""Train a StyleGAN2-ADA, or a method that plugs into it, on a folder or zip of images."""

from __future__ import annotations

from dataclasses import MISSING, Field
from pathlib import Path
from typing import Any

import click

from dnnlib.console import EXIT_STOPPED, errors_in_one_line
from dnnlib.util import UserError
from training.run.options import AUGPIPES, PRECISIONS, Flags
from training.run.registry import AnyOption, augmentations, configurations, extensions
from training.run.time_plan import parse_time

TRANSFORMS = ("center-crop", "pad", "stretch")
"""The first is the default; the last does neither of what the others do."""

RUNTIME_PARAMETERS = {
    *("continue_run", "outdir", "device", "detectors", "state_minutes", "trust_pickle", "dry_run", "progress"),
    *("snap_format", "trust_detectors", "stop_on", "log"),
}
"""Flags that concern one session of a run, and are not stored with it."""

PHOTOGRAPH_PARAMETERS = {"size", "transform"}
"""Flags that say how a dataset is prepared for a run."""


def method_settings() -> dict[str, Field[Any]]:
    """Return the settings of all methods by name; methods may share one."""
    options: list[AnyOption] = [*configurations().values(), *augmentations().values(), *extensions().values()]
    return {name: setting for option in options for name, setting in option.settings.items()}


def setting_headings() -> dict[str, str]:
    """Return, for each setting of a method, the heading under which ``--help`` lists it."""
    headings = {name: "Options for any --cfg" for option in extensions().values() for name in option.settings}
    for flag, options in (("--aug", augmentations()), ("--cfg", configurations())):
        for name in {name: None for option in options.values() for name in option.settings}:
            users = [option.name for option in options.values() if name in option.settings]
            headings[name] = f"Options of {flag}={'|'.join(users)}"
    return headings


class TrainCommand(click.Command):
    """A command whose help lists the settings of methods under headings of their own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, the general ones first."""
        headings = setting_headings()
        groups: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                groups.setdefault(headings.get(param.name or "", "Options"), []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def add_method_options(command: click.Command) -> click.Command:
    """Give ``command`` a flag for each setting of the methods."""
    for name, setting in method_settings().items():
        default = setting.default if setting.default_factory is MISSING else setting.default_factory()
        shown = ",".join(map(str, default)) if isinstance(default, list) else default
        notes = [str(note) for note in (shown, setting.metadata.get("source")) if note is not None]
        text = f"{setting.metadata['help']}  [default: {'; '.join(notes)}]"
        command.params.append(click.Option(["--" + name.replace("_", "-")], type=setting.metadata["type"], help=text))
    return command


def parse_metrics(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    """Split a comma list; 'none' is the empty one."""
    return () if value.lower() == "none" else tuple(name.strip() for name in value.split(",") if name.strip())


def parse_snapshot_formats(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    """Split a comma list; the pickle is what every other script reads, so it is always there."""
    formats = tuple(name.strip() for name in value.split(","))
    if not {"pkl"} <= set(formats) <= {"pkl", "safetensors"}:
        raise click.BadParameter(f"expected pkl or pkl,safetensors, got {value!r}")
    return formats


def parse_duration(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Read a time in seconds."""
    try:
        return None if value is None else parse_time(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def given_flags(ctx: click.Context) -> dict[str, Any]:
    """Return the values of the flags on the command line that are stored with a run, by parameter name."""
    return {
        name: value
        for name, value in ctx.params.items()
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE and name not in RUNTIME_PARAMETERS
    }


OF_CFG = "[default: set by --cfg]"


@click.command(cls=TrainCommand, context_settings={"max_content_width": 120})
@click.option("--outdir", type=click.Path(file_okay=False, path_type=Path), help="Folder for the runs.")
@click.option(
    "--data",
    type=click.Path(),
    help="Training images: a folder or zip made by dataset_tool.py, or with --size any photographs.",
)
@click.option(
    "--size", type=click.IntRange(min=1), help="Prepare the images of --data first, at this many pixels a side."
)
@click.option(
    "--transform",
    type=click.Choice(TRANSFORMS),
    default=TRANSFORMS[0],
    show_default=True,
    help="With --size: crop to the middle square, add black bands, or stretch.",
)
@click.option(
    "--continue", "continue_run", metavar="RUN|latest", help="Continue a run (its folder, or the latest in --outdir)."
)
@click.option("--gpus", type=click.IntRange(min=1), default=1, show_default=True, help="Number of processes.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cuda", "cpu", "mps"]),
    default="auto",
    show_default=True,
    help="Device to train on; auto is cuda if available, else cpu.",
)
@click.option(
    "--snap", type=click.IntRange(min=1), default=50, show_default=True, help="Ticks between snapshots and samples."
)
@click.option(
    "--tick",
    type=click.FloatRange(min=0, min_open=True),
    default=4.0,
    show_default=True,
    help="Length of a tick in thousands of images.",
)
@click.option(
    "--metrics",
    default="fid50k_full",
    show_default=True,
    callback=parse_metrics,
    help="Comma-separated metrics, or none.",
)
@click.option(
    "--snap-format",
    default="pkl",
    show_default=True,
    callback=parse_snapshot_formats,
    help="Comma-separated snapshot formats: pkl, safetensors.",
)
@click.option("--metrics-ticks", type=click.IntRange(min=1), help="Ticks between metrics.  [default: value of --snap]")
@click.option(
    "--detectors", type=click.Path(exists=True, file_okay=False), help="Folder with the metrics' feature networks."
)
@click.option("--metricdata", type=click.Path(), help="Images that metrics compare with.  [default: those of --data]")
@click.option(
    "--object-detector",
    metavar="NAME",
    help="Detector of the object metrics; see docs/metrics.md.  [default: scenes or nanodet, by the images]",
)
@click.option(
    "--trust-detectors", is_flag=True, help="Allow feature networks of unknown origin, which can execute code."
)
@click.option(
    "--state-minutes",
    type=click.FloatRange(min=0),
    default=10,
    show_default=True,
    help="Minimum minutes between checkpoints.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Random seed.")
@click.option("-n", "--dry-run", is_flag=True, help="Check everything, print the options and exit.")
@click.option("--cond", type=bool, default=False, show_default=True, help="Train conditionally on the labels.")
@click.option("--subset", type=click.IntRange(min=1), help="Maximum number of training images.  [default: all]")
@click.option("--mirror", type=bool, default=False, show_default=True, help="Add horizontally flipped copies.")
@click.option(
    "--cfg",
    type=click.Choice(list(configurations())),
    default="auto",
    show_default=True,
    help="Base configuration; see docs/training.md.",
)
@click.option(
    "--small",
    type=bool,
    is_flag=False,
    flag_value=True,
    default=False,
    metavar="[BOOL]",
    help="Give --cfg a capacity and schedule for a CPU; see docs/training.md.  [default: without GPU and --cfg]",
)
@click.option("--gamma", type=click.FloatRange(min=0), help=f"R1 regularization weight.  {OF_CFG}")
@click.option("--kimg", type=click.IntRange(min=1), help=f"Training length in thousands of real images.  {OF_CFG}")
@click.option(
    "--time",
    callback=parse_duration,
    metavar="TIME",
    help="Training length as a time, such as 30m, 8h or 2d; it plans ticks and snapshots.",
)
@click.option("--batch", type=click.IntRange(min=1), help=f"Total batch size.  {OF_CFG}")
@click.option("--batch-gpu", type=click.IntRange(min=1), help=f"Images per forward and backward pass.  {OF_CFG}")
@click.option("--cbase", type=click.IntRange(min=1), help=f"Capacity: channels times resolution.  {OF_CFG}")
@click.option("--cmax", type=click.IntRange(min=1), help=f"Maximum number of channels per layer.  {OF_CFG}")
@click.option("--glr", type=click.FloatRange(min=0, min_open=True), help=f"Learning rate of G.  {OF_CFG}")
@click.option("--dlr", type=click.FloatRange(min=0, min_open=True), help=f"Learning rate of D.  {OF_CFG}")
@click.option("--map-depth", type=click.IntRange(min=1), help=f"Layers of the mapping network.  {OF_CFG}")
@click.option("--mbstd-group", type=click.IntRange(min=1), help=f"Minibatch standard deviation group size.  {OF_CFG}")
@click.option(
    "--aug",
    type=click.Choice(["noaug", "ada", "fixed", *augmentations()]),
    help=f"Augmentation: none, adaptive, with a fixed probability, or that of a method.  {OF_CFG}",
)
@click.option("--p", type=click.FloatRange(0, 1), help="Augmentation probability for --aug=fixed.")
@click.option("--target", type=click.FloatRange(0, 1), help="Target of --aug=ada.  [default: 0.6]")
@click.option("--augpipe", type=click.Choice(list(AUGPIPES)), help="Set of augmentations.  [default: bgc]")
@click.option(
    "--ada-max-p",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Upper bound of the augmentation probability; inf for none.",
)
@click.option("--resume", metavar="PKL", help="Snapshot to start from: a known name, path or URL.  [default: noresume]")
@click.option("--trust-pickle", is_flag=True, help="Allow the file of --resume to execute code.")
@click.option("--noise", type=bool, help=f"Add noise in the layers of G.  {OF_CFG}")
@click.option("--freezed", type=click.IntRange(min=0), help="Freeze the first N layers of D.  [default: 0]")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Precision of the four highest resolutions; see docs/training.md.  [default: fp16]",
)
@click.option("--fp32", type=bool, default=False, show_default=True, help="Same as --precision=fp32.")
@click.option(
    "--nhwc",
    type=bool,
    default=False,
    show_default=True,
    help="Accepted for compatibility; half precision is always channels-last.",
)
@click.option("--nobench", type=bool, default=False, show_default=True, help="Disable cuDNN benchmarking.")
@click.option("--allow-tf32", type=bool, default=False, show_default=True, help="Allow TensorFloat-32.")
@click.option("--workers", type=click.IntRange(min=0), default=3, show_default=True, help="Data loading processes.")
@click.option("--desc", help="Text to append to the name of the run folder.")
@click.option(
    "--progress",
    type=click.Choice(["auto", "plain", "none"]),
    default="auto",
    show_default=True,
    help="Console output: lines and a bar on terminals, lines only, or none.",
)
@click.option(
    "--log",
    type=click.Choice(["wandb"]),
    help="Send statistics and samples to Weights & Biases, too.  [default: write files only]",
)
@click.option(
    "--stop-on",
    type=click.Choice(["divergence"]),
    help="Stop when training diverges, and keep the last checkpoint.  [default: never]",
)
@click.pass_context
def main(
    ctx: click.Context,
    outdir: Path | None,
    data: str | None,
    size: int | None,
    transform: str,
    continue_run: str | None,
    device: str,
    detectors: str | None,
    state_minutes: float,
    snap_format: tuple[str, ...],
    dry_run: bool,
    trust_pickle: bool,
    trust_detectors: bool,
    progress: str,
    log: str | None,
    stop_on: str | None,
    **others: Any,
) -> None:
    """Train a GAN on a folder or zip of square images.

    \b
    Examples:
      python train.py --outdir=runs --data=photos --size=64
      python train.py --outdir=runs --data=datasets/photos.zip --gpus=1 --cfg=msconD --mirror=1
      python train.py --continue=runs/00000-photos-mirror-msconD

    Each run creates a numbered folder in --outdir. Ctrl-C or SIGTERM saves a checkpoint and stops; --continue resumes
    training exactly where it stopped. --resume starts a new run from the networks of a snapshot (transfer learning).
    """  # noqa: D301 -- click needs the control character
    from metrics.detectors import trust_torchscript
    from torch_utils.distributed import ProcessError
    from training.run.launch import train_run  # here: --help must not wait for torch
    from training.run.photographs import PhotographFlags
    from training.run.request import RunRequest

    if trust_detectors:
        trust_torchscript()
    with errors_in_one_line(ProcessError):
        if size is None and ctx.get_parameter_source("transform") is click.core.ParameterSource.COMMANDLINE:
            raise UserError("--transform needs --size: images of another size are not trained on")
        settings = {name: value for name in method_settings() if (value := others.pop(name)) is not None}
        given = given_flags(ctx)
        request = RunRequest(
            outdir=outdir,
            continue_run=continue_run,
            flags=None if data is None else Flags(data=data, settings=settings, explicit=frozenset(given), **others),
            device=device,
            runtime={
                "detector_folder": detectors,
                "state_interval_sec": state_minutes * 60,
                "snapshot_formats": snap_format,
                "trust_pickle": trust_pickle,
                "progress": progress,
                "log": log,
                "stop_on": stop_on,
            },
            is_dry_run=dry_run,
            photographs=None if size is None else PhotographFlags(size, transform),
            given=given,
        )
        is_finished = train_run(request)
    if not is_finished:
        raise SystemExit(EXIT_STOPPED)


add_method_options(main)

if __name__ == "__main__":
    main()
