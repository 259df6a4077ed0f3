"""Run a script of another StyleGAN2-ADA checkout, such as the official one, with the method attached.

    python -m msconD.attach CHECKOUT train.py --outdir=runs --data=photos.zip --cfg=msconD [flags of the method]
    python -m msconD.attach CHECKOUT generate.py ...

Nothing in the checkout changes. The script gets ``--cfg=stylegan2``, whose hyperparameters the method keeps, and none
of the method's flags. When it calls ``training.training_loop.training_loop``, the method's discriminator and loss
replace its own. Processes that the script starts begin with the module that ``__main__.__spec__`` names, which is this
one; they read what to attach from the environment.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import runpy
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import torch

from msconD.checkout import SUPPORTED, missing_package, missing_part
from msconD.compat import apply_shims
from msconD.settings import BASE_CFG, DISCRIMINATOR, LOSS, MAX_BATCH_GPU, VARIANTS, check_images_per_pass

BASE_BATCH = 32
"""Batch size of that configuration in the official code."""

ENVIRONMENT_VARIABLE = "MSCOND_ATTACH"


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


def attach(attachment: Attachment) -> list[str]:
    """Prepare this process to run the checkout: import paths, compatibility shims and, if asked for, the method.

    Returns:
        Messages for the user.

    Raises:
        ImportError: A module that the checkout needs is not installed.
    """
    home = str(Path(__file__).parents[1])
    # Whatever the checkout has is imported from there; this package, by processes yet to be started, from here.
    sys.path[:] = [attachment.checkout, home, *(path for path in sys.path if path not in (home, attachment.checkout))]
    messages = apply_shims()
    if attachment.changes:
        wrap_training_loop(attachment.changes)
        messages += [f"{name} will have {json.dumps(change)}" for name, change in attachment.changes.items()]
    return messages


def wrap_training_loop(changes: dict[str, dict[str, Any]]) -> None:
    """Let the checkout's training loop use the method's classes, whoever calls it."""
    module: Any = importlib.import_module("training.training_loop")
    training_loop = module.training_loop

    @functools.wraps(training_loop)
    def with_method(**kwargs: Any) -> Any:
        for name, change in changes.items():
            kwargs[name].update(change)
        batch_per_process = kwargs["batch_size"] // kwargs["num_gpus"]
        kwargs["batch_gpu"] = max(kwargs["batch_gpu"], min(batch_per_process, MAX_BATCH_GPU))
        if kwargs.get("rank", 0) == 0:
            correct_options(Path(kwargs["run_dir"]) / "training_options.json", kwargs, (*changes, "batch_gpu"))
        return training_loop(**kwargs)

    module.training_loop = with_method


def correct_options(path: Path, kwargs: dict[str, Any], names: Sequence[str]) -> None:
    """Record the settings that are trained in the run folder; the script wrote them without those of the method."""
    if path.is_file():
        options = json.loads(path.read_text())
        options.update({name: kwargs[name] for name in names})
        path.write_text(json.dumps(options, indent=2))


def check_settings(changes: dict[str, dict[str, Any]], arguments: Sequence[str]) -> None:
    """Try the settings on the script's data and batch before it makes a run folder.

    Args:
        changes: As in `Attachment`.
        arguments: Arguments of the script. What is wrong with them is left to the script to report.

    Raises:
        ValueError: The settings do not match each other, the size of the images, the batch or the checkout.
    """
    flags, _ = split_arguments(arguments, dict.fromkeys(("data", "gpus", "batch"), click.UNPROCESSED))
    try:
        num_gpus, resolution = int(flags.get("gpus", 1)), image_resolution(flags.get("data", ""))
        batch_per_process = int(flags.get("batch", BASE_BATCH)) // num_gpus
    except (ValueError, ZeroDivisionError):
        return
    check_images_per_pass({"batch_gpu": batch_per_process, "num_gpus": num_gpus, **changes})
    if resolution is not None:
        construct = importlib.import_module("dnnlib.util").construct_class_by_name
        shape = {"c_dim": 0, "img_resolution": resolution, "img_channels": 3}
        D = construct(**changes["D_kwargs"], **shape, channel_base=resolution, channel_max=1)
        check_final_layers(D, torch.randn([4, 3, resolution, resolution]))
        construct(**changes["loss_kwargs"], device="cpu", G_mapping=None, G_synthesis=None, D=D)


def check_final_layers(D: torch.nn.Module, img: torch.Tensor) -> None:
    """Refuse a checkout whose final layers are not those that `msconD.discriminator` runs one by one.

    Raises:
        ValueError: The checkout's own forward pass gives different logits.
    """
    try:
        with torch.no_grad():
            is_same = torch.allclose(D(img, None), D(img, None, all_scales=True).logits[1], rtol=1e-3, atol=1e-6)
    except AttributeError:
        is_same = False
    if not is_same:
        raise ValueError(f"DiscriminatorEpilogue differs from that of StyleGAN2-ADA; {SUPPORTED}")


def image_resolution(path: str) -> int | None:
    """Return the size in pixels of a dataset's images, or None if the checkout cannot open it."""
    dataset_class = importlib.import_module("training.dataset").ImageFolderDataset
    try:
        resolution: int = dataset_class(path=path).resolution
    except Exception:  # whichever the checkout chooses; its script will report it
        return None
    return resolution


def run_as_main(path: Path, arguments: Sequence[str]) -> None:
    """Run a script as if Python had been started with it."""
    main_module = ModuleType("__main__")
    main_module.__file__ = str(path)
    main_module.__spec__ = __spec__  # multiprocessing starts new processes with the module that this names
    sys.modules["__main__"] = main_module
    sys.argv[:] = [str(path), *arguments]
    exec(compile(path.read_bytes(), path, "exec", dont_inherit=True), vars(main_module))


def start_process() -> dict[str, Any]:
    """Prepare a worker process that the script has started, and return the globals of the script."""
    attachment = Attachment(**json.loads(os.environ[ENVIRONMENT_VARIABLE]))
    attach(attachment)
    names = runpy.run_path(str(Path(attachment.checkout) / attachment.script), run_name="__mp_main__")
    return names | {"__spec__": __spec__}


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("checkout", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(checkout: Path, script: str, arguments: tuple[str, ...]) -> None:
    """Run SCRIPT of the StyleGAN2-ADA code in folder CHECKOUT with ARGUMENTS.

    train.py also accepts --cfg=msconD and --cfg=multiscale with the flags that README.md of this package lists. What
    the code needs and current Python, PyTorch and SciPy no longer have is supplied.
    """
    attachment, others = read_arguments(checkout, script, arguments)
    try:
        messages = attach(attachment)
        if attachment.changes:
            check_settings(attachment.changes, others)
    except (ImportError, ValueError) as error:
        raise click.ClickException(f"{checkout}: {error}") from None
    for message in messages:
        click.echo(f"msconD.attach: {message}")
    os.environ[ENVIRONMENT_VARIABLE] = json.dumps(asdict(attachment))
    run_as_main(checkout / script, others)


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":
    globals().update(start_process())
