"""Train a StyleGAN2-ADA, or a method that plugs into it, on a folder or zip of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dnnlib.util import UserError
from training.run.options import AUGPIPES, Flags
from training.run.registry import Setting, configurations

EXIT_STOPPED = 75
"""Exit status of a run that was asked to stop and can be continued (EX_TEMPFAIL)."""

CONTINUE_PARAMETERS = {"continue_run", "outdir", "kimg", "device", "detectors", "state_minutes", "trust_pickle"}
CONTINUE_PARAMETERS |= {"dry_run", "progress", "snap_format"}
"""What means something to a run that goes on; everything else was decided when it began."""


def method_settings() -> dict[str, Setting]:
    """Settings of all methods by parameter name; methods may share one."""
    return {
        setting.parameter: setting for configuration in configurations().values() for setting in configuration.settings
    }


class TrainCommand(click.Command):
    """A command whose help lists the settings of methods under headings of their own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, the general ones first."""
        settings = method_settings()
        users: dict[str, list[str]] = {name: [] for name in settings}
        for configuration in configurations().values():
            for setting in configuration.settings:
                users[setting.parameter].append(configuration.name)
        groups: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                names = users.get(param.name or "", [])
                heading = f"Options of --cfg={'|'.join(names)}" if names else "Options"
                groups.setdefault(heading, []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def add_method_options(command: click.Command) -> click.Command:
    """Give ``command`` a flag for each setting of the methods."""
    for setting in method_settings().values():
        command.params.append(
            click.Option([setting.flag, setting.parameter], metavar=setting.metavar, help=setting.help)
        )
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


def parse_settings(given: dict[str, str | None]) -> dict[str, Any]:
    """Values of the method settings that were given."""
    values = {}
    for name, text in given.items():
        if text is not None:
            setting = method_settings()[name]
            try:
                values[name] = setting.parse(text)
            except ValueError as error:
                raise UserError(f"{setting.flag}={text}: {error}") from error
    return values


def unused_flags(ctx: click.Context) -> tuple[str, ...]:
    """Flags that were given but cannot change a run that is continued."""
    given = [
        param
        for param in ctx.command.params
        if param.name and ctx.get_parameter_source(param.name) is click.core.ParameterSource.COMMANDLINE
    ]
    return tuple(param.opts[-1] for param in given if param.name not in CONTINUE_PARAMETERS)


@click.command(cls=TrainCommand, context_settings={"max_content_width": 120})
@click.option("--outdir", type=click.Path(file_okay=False, path_type=Path), help="Folder that holds the runs.")
@click.option("--data", type=click.Path(), help="Training images: folder or zip (see dataset_tool.py).")
@click.option("--continue", "continue_run", metavar="RUN|latest", help="Go on exactly where a run stopped.")
@click.option("--gpus", type=click.IntRange(min=1), default=1, show_default=True, help="Processes on this machine.")
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu", "mps"]), default="auto", show_default=True)
@click.option("--snap", type=click.IntRange(min=1), default=50, show_default=True, help="Ticks between snapshots.")
@click.option(
    "--tick", type=click.FloatRange(min=0, min_open=True), default=4.0, show_default=True, help="kimg per tick."
)
@click.option(
    "--metrics",
    default="fid50k_full",
    show_default=True,
    callback=parse_metrics,
    help="Comma list of metrics or 'none'.",
)
@click.option(
    "--snap-format",
    default="pkl",
    show_default=True,
    callback=parse_snapshot_formats,
    help="Comma list of pkl and safetensors.",
)
@click.option("--metrics-ticks", type=click.IntRange(min=1), help="Ticks between metrics.  [default: --snap]")
@click.option("--detectors", type=click.Path(exists=True, file_okay=False), help="Folder with the metrics' networks.")
@click.option(
    "--state-minutes", type=click.FloatRange(min=0), default=10, show_default=True, help="Least time between states."
)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Decides everything random."
)
@click.option("-n", "--dry-run", is_flag=True, help="Check everything, print the options and stop.")
@click.option("--cond", type=bool, default=False, show_default=True, help="Train with the labels of the dataset.")
@click.option("--subset", type=click.IntRange(min=1), help="Use so many of the images.  [default: all]")
@click.option("--mirror", type=bool, default=False, show_default=True, help="Add mirrored copies of the images.")
@click.option(
    "--cfg", type=click.Choice(list(configurations())), default="auto", show_default=True, help="Configuration."
)
@click.option("--gamma", type=click.FloatRange(min=0), help="Weight of R1.  [default: of --cfg]")
@click.option("--kimg", type=click.IntRange(min=1), help="Length of training, 1000 real images.  [default: of --cfg]")
@click.option("--batch", type=click.IntRange(min=1), help="Images per optimizer step.  [default: of --cfg]")
@click.option("--batch-gpu", type=click.IntRange(min=1), help="Images per pass of a process.  [default: of --cfg]")
@click.option("--cbase", type=click.IntRange(min=1), help="Channels times resolution.  [default: of --cfg]")
@click.option("--cmax", type=click.IntRange(min=1), default=512, show_default=True, help="Most channels of a layer.")
@click.option("--glr", type=click.FloatRange(min=0, min_open=True), help="Learning rate of G.  [default: of --cfg]")
@click.option("--dlr", type=click.FloatRange(min=0, min_open=True), help="Learning rate of D.  [default: of --cfg]")
@click.option("--map-depth", type=click.IntRange(min=1), help="Layers of the mapping network.  [default: of --cfg]")
@click.option("--mbstd-group", type=click.IntRange(min=1), help="Images per minibatch-std group.  [default: of --cfg]")
@click.option(
    "--aug", type=click.Choice(["noaug", "ada", "fixed"]), default="ada", show_default=True, help="Augmentation."
)
@click.option("--p", type=click.FloatRange(0, 1), help="Probability of augmentation with --aug=fixed.")
@click.option("--target", type=click.FloatRange(0, 1), help="Target of --aug=ada.  [default: 0.6]")
@click.option("--augpipe", type=click.Choice(list(AUGPIPES)), help="Which transforms.  [default: bgc]")
@click.option(
    "--ada-max-p", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Limit of p; inf for none."
)
@click.option("--resume", metavar="PKL", help="Snapshot to start from: a name, path or URL.  [default: noresume]")
@click.option("--trust-pickle", is_flag=True, help="Let the file of --resume execute code.")
@click.option("--freezed", type=click.IntRange(min=0), help="Freeze the first so many layers of D.  [default: 0]")
@click.option("--fp32", type=bool, default=False, show_default=True, help="No half precision.")
@click.option("--nhwc", type=bool, default=False, show_default=True, help="Channels-last memory in half precision.")
@click.option("--nobench", type=bool, default=False, show_default=True, help="No cuDNN benchmarking.")
@click.option("--allow-tf32", type=bool, default=False, show_default=True, help="Allow TensorFloat-32.")
@click.option("--workers", type=click.IntRange(min=0), default=3, show_default=True, help="Data-loading processes.")
@click.option("--desc", help="Text to add to the name of the run folder.")
@click.option("--progress", type=click.Choice(["auto", "plain", "none"]), default="auto", show_default=True)
@click.pass_context
def main(
    ctx: click.Context,
    outdir: Path | None,
    data: str | None,
    continue_run: str | None,
    device: str,
    detectors: str | None,
    state_minutes: float,
    snap_format: tuple[str, ...],
    dry_run: bool,
    trust_pickle: bool,
    progress: str,
    **others: Any,
) -> None:
    """Train a GAN on a folder or zip of square images.

    A run makes a new numbered folder in --outdir. Ctrl-C or SIGTERM saves the whole state; --continue goes on from
    there as if nothing had happened. --resume starts a new run from the networks of a snapshot (transfer learning).
    """
    from torch_utils.distributed import ProcessError
    from training.run.launch import RunRequest, train_run  # here: --help must not wait for torch

    try:
        settings = parse_settings({name: others.pop(name) for name in method_settings()})
        request = RunRequest(
            outdir=outdir,
            continue_run=continue_run,
            unused_flags=unused_flags(ctx),
            flags=None if data is None else Flags(data=data, settings=settings, **others),
            device=device,
            runtime={
                "detector_folder": detectors,
                "state_interval_sec": state_minutes * 60,
                "snapshot_formats": snap_format,
                "trust_pickle": trust_pickle,
                "progress": progress,
            },
            kimg=others["kimg"],
            is_dry_run=dry_run,
        )
        is_finished = train_run(request)
    except (UserError, ProcessError) as error:
        raise click.ClickException(str(error)) from error
    if not is_finished:
        raise SystemExit(EXIT_STOPPED)


add_method_options(main)

if __name__ == "__main__":
    main()
