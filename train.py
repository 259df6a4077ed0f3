"""Train a StyleGAN2-ADA, or a method that plugs into it, on a folder or zip of images."""

from __future__ import annotations

from dataclasses import MISSING, Field
from typing import Any

import click

from dnnlib.click_command import Command
from dnnlib.console import EXIT_STOPPED, errors_in_one_line
from dnnlib.errors import UserError
from training.run.flags import Flags, flag_name, flag_options
from training.run.registry import AnyOption, augmentations, configurations, extensions


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


class TrainCommand(Command):
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


def method_options() -> list[click.Option]:
    """Return an option for each setting of the methods."""
    options = []
    for name, setting in method_settings().items():
        default = setting.default if setting.default_factory is MISSING else setting.default_factory()
        shown = ",".join(map(str, default)) if isinstance(default, list) else default
        notes = [str(note) for note in (shown, setting.metadata.get("source")) if note is not None]
        text = f"{setting.metadata['help']}  [default: {'; '.join(notes)}]"
        options.append(click.Option([flag_name(name)], type=setting.metadata["type"], help=text))
    return options


def read_flags(ctx: click.Context) -> Flags:
    """Return the values of all flags, and which of them are on the command line."""
    values = dict(ctx.params)
    settings = {name: value for name in method_settings() if (value := values.pop(name)) is not None}
    on_command_line = click.core.ParameterSource.COMMANDLINE
    explicit = tuple(name for name in ctx.params if ctx.get_parameter_source(name) is on_command_line)
    return Flags(**values, settings=settings, explicit=explicit)


@click.command(
    cls=TrainCommand, params=[*flag_options(), *method_options()], context_settings={"max_content_width": 120}
)
@click.pass_context
def main(ctx: click.Context, **_values: Any) -> None:
    """Train a GAN on a folder or zip of square images.

    \b
    Examples:
      python train.py --outdir=runs --data=photos --size=64
      python train.py --outdir=runs --data=datasets/photos.zip --gpus=1 --cfg=msconD --mirror=1
      python train.py --continue=runs/00000-photos-mirror-msconD

    Each run creates a numbered folder in --outdir. Ctrl-C or SIGTERM saves a checkpoint and stops; --continue resumes
    training exactly where it stopped. --resume starts a new run from the networks of a snapshot (transfer learning).
    """  # noqa: D301 -- click needs the control character
    from metrics.weights import trust_torchscript
    from torch_utils.launch import ProcessError
    from training.run.launch import train_run  # here: --help must not wait for torch

    flags = read_flags(ctx)
    if flags.trust_detectors:
        trust_torchscript()
    with errors_in_one_line(ProcessError):
        if flags.size is None and "transform" in flags.explicit:
            raise UserError("--transform needs --size: images of another size are not trained on")
        is_finished = train_run(flags)
    if not is_finished:
        raise SystemExit(EXIT_STOPPED)


if __name__ == "__main__":
    main()
