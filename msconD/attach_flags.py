"""The command line of ``python -m msconD.attach``: flags of the method apart from those of the script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import click

from msconD.checkout import SUPPORTED, missing_package, missing_part
from msconD.settings import BASE_CFG, DISCRIMINATOR, LOSS, VARIANTS


@dataclass(frozen=True)
class Attachment:
    """A script of a checkout, and what the method changes in it; the same for every process of the run."""

    checkout: str
    script: str
    changes: dict[str, dict[str, Any]]
    """Additions to arguments of the training loop, by argument; empty without the method."""


def read_arguments(checkout: Path, script: str, arguments: Sequence[str]) -> tuple[Attachment, list[str]]:
    """Take the method's flags out of a command line.

    Returns:
        The attachment, and the remaining arguments for the script.

    Raises:
        click.ClickException: The checkout, the script or a flag is wrong.
    """
    missing = missing_package(checkout)
    if missing is not None:
        raise click.ClickException(f"{checkout} is not a StyleGAN2-ADA checkout: {missing} is missing")
    if not (checkout / script).is_file():
        scripts = ", ".join(sorted(path.name for path in checkout.glob("*.py")))
        raise click.ClickException(f"no script {script} in {checkout}; there are {scripts or 'none'}")
    types = {name: type for cfg in VARIANTS for name, type in setting_types(cfg).items()}
    given, others = split_arguments(arguments, {"cfg": click.STRING, **types})
    cfg = given.pop("cfg", None)
    changes: dict[str, dict[str, Any]] = {}
    if cfg in VARIANTS:
        missing = missing_part(checkout)
        if missing is not None:
            raise click.ClickException(f"--cfg={cfg} cannot be attached to {checkout}: {missing}; {SUPPORTED}")
        changes = method_changes(cfg, given)
        others.append(f"--cfg={BASE_CFG}")
    elif given:
        flag = flag_of(next(iter(given)))
        raise click.ClickException(f"{flag} has no effect without --cfg={' or --cfg='.join(VARIANTS)}")
    elif cfg is not None:
        others.append(f"--cfg={cfg}")
    return Attachment(str(checkout.resolve()), script, changes), others


def setting_types(cfg: str) -> dict[str, click.ParamType]:
    """Return the types of the settings of one ``--cfg`` by name."""
    variant = VARIANTS[cfg]
    return {
        setting.name: setting.metadata["type"]
        for settings in (variant.D_settings, variant.loss_settings)
        for setting in fields(settings)
    }


def flag_of(name: str) -> str:
    """Return the name of a setting as a flag."""
    return "--" + name.replace("_", "-")


def split_arguments(arguments: Sequence[str], types: dict[str, click.ParamType]) -> tuple[dict[str, Any], list[str]]:
    """Separate flags from other arguments.

    Args:
        arguments: Command line.
        types: Types of the flags to take out, by name.

    Returns:
        Values of those that were given, and the other arguments in their order.

    Raises:
        click.ClickException: A value is illegal or missing.
    """
    parser = click.Command(
        "attach",
        params=[
            *(click.Option([flag_of(name)], type=type) for name, type in types.items()),
            click.Argument(["others"], nargs=-1, type=click.UNPROCESSED),
        ],
        context_settings={"ignore_unknown_options": True},
        add_help_option=False,
    )
    try:
        values = parser.make_context(None, list(arguments)).params
    except click.UsageError as error:
        raise click.ClickException(error.format_message()) from None
    return {name: values[name] for name in types if values[name] is not None}, list(values["others"])


def method_changes(cfg: str, given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what ``--cfg`` and the given settings add to the arguments of the training loop.

    Raises:
        click.ClickException: A setting has no effect with this ``--cfg``.
    """
    unused = given.keys() - setting_types(cfg).keys()
    if unused:
        raise click.ClickException(f"{flag_of(min(unused))} has no effect with --cfg={cfg}")

    def values(settings: type) -> dict[str, Any]:
        names = {setting.name for setting in fields(settings)}
        return asdict(settings(**{name: value for name, value in given.items() if name in names}))

    variant = VARIANTS[cfg]
    return {
        "D_kwargs": {"class_name": DISCRIMINATOR, **variant.D_kwargs, **values(variant.D_settings)},
        "loss_kwargs": {"class_name": LOSS, **variant.loss_kwargs, **values(variant.loss_settings)},
    }
