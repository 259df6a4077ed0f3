"""Run a script of another StyleGAN2-ADA checkout, such as the official one, with the method attached.

    python -m msconD.attach CHECKOUT train.py --outdir=runs --data=photos.zip --cfg=msconD [flags of the method]
    python -m msconD.attach CHECKOUT generate.py ...

Nothing in the checkout changes. The script sees ``--cfg=stylegan2``, whose hyperparameters the method keeps, and none
of its flags. When it calls ``training.training_loop.training_loop``, the method's discriminator and loss take the
places of its own. Processes that the script starts begin with the module that ``__main__.__spec__`` names, which is
this one; they find their orders in the environment.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import runpy
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from msconD.flags import BASE_CFG, DISCRIMINATOR, LOSS, MAX_BATCH_GPU, VARIANTS, Flag
from msconD.mends import apply_mends

PACKAGES = ("dnnlib", "torch_utils", "training")
"""What makes a folder a checkout; these must be packages, or others of the same name might be imported instead."""

ORDERS_VARIABLE = "MSCOND_ATTACH"


@dataclass(frozen=True)
class Orders:
    """What every process of the run does."""

    checkout: str
    script: str
    changes: dict[str, dict[str, Any]]
    """Additions to arguments of the training loop, by argument; empty without the method."""


def read_arguments(checkout: Path, script: str, arguments: Sequence[str]) -> tuple[Orders, list[str]]:
    """Take the method's flags out of a command line.

    Returns:
        The orders, and the arguments that are left for the script.

    Raises:
        click.ClickException: The checkout, the script or a flag is wrong; one line says how.
    """
    missing = [name for name in PACKAGES if not (checkout / name / "__init__.py").is_file()]
    if missing:
        raise click.ClickException(f"{checkout} is no StyleGAN2-ADA checkout: it has no {missing[0]}/__init__.py")
    if not (checkout / script).is_file():
        scripts = ", ".join(sorted(path.name for path in checkout.glob("*.py")))
        raise click.ClickException(f"no script {script} in {checkout}; there are {scripts or 'none'}")
    given, others = split_arguments(arguments)
    cfg = given.pop("--cfg", None)
    changes: dict[str, dict[str, Any]] = {}
    if cfg in VARIANTS:
        changes = method_changes(cfg, given)
        others.append(f"--cfg={BASE_CFG}")
    elif given:
        raise click.ClickException(f"{next(iter(given))} has no effect without --cfg={' or --cfg='.join(VARIANTS)}")
    elif cfg is not None:
        others.append(f"--cfg={cfg}")
    return Orders(str(checkout.resolve()), script, changes), others


def split_arguments(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Part the values of ``--cfg`` and of the method's flags, by flag, from other arguments, in their order."""
    names = {"--cfg": "cfg"} | {flag.flag: flag.key for variant in VARIANTS.values() for flag in variant.flags}
    parser = click.Command(
        "attach",
        params=[
            *(click.Option([flag, key]) for flag, key in names.items()),
            click.Argument(["others"], nargs=-1, type=click.UNPROCESSED),
        ],
        context_settings={"ignore_unknown_options": True},
        add_help_option=False,
    )
    try:
        values = parser.make_context(None, list(arguments)).params
    except click.UsageError as error:
        raise click.ClickException(error.format_message()) from None
    return {flag: values[key] for flag, key in names.items() if values[key] is not None}, list(values["others"])


def method_changes(cfg: str, given: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Work out what ``--cfg`` and the values of flags add to the arguments of the training loop."""
    variant = VARIANTS[cfg]
    changes: dict[str, dict[str, Any]] = {
        "D_kwargs": {"class_name": DISCRIMINATOR, **variant.D_kwargs},
        "loss_kwargs": {"class_name": LOSS, **variant.loss_kwargs},
    }
    unused = given.keys() - {flag.flag for flag in variant.flags}
    if unused:
        raise click.ClickException(f"{min(unused)} has no effect with --cfg={cfg}")
    for flag in variant.flags:
        changes[flag.target][flag.key] = parse(flag, given[flag.flag]) if flag.flag in given else flag.default
    return changes


def parse(flag: Flag, text: str) -> Any:
    """Read the value of a flag."""
    try:
        return flag.parse(text)
    except ValueError as error:
        raise click.ClickException(f"{flag.flag}={text}: {error}") from None


def attach(orders: Orders) -> list[str]:
    """Make this process one of the checkout: its modules, the mends, the method; return what to tell the user."""
    home = str(Path(__file__).parents[1])
    # Whatever the checkout has is imported from there; this package, by processes yet to be started, from here.
    sys.path[:] = [orders.checkout, home, *(path for path in sys.path if path not in (home, orders.checkout))]
    messages = apply_mends()
    if orders.changes:
        wrap_training_loop(orders.changes)
        messages += [f"{name} will have {json.dumps(change)}" for name, change in orders.changes.items()]
    return messages


def wrap_training_loop(changes: dict[str, dict[str, Any]]) -> None:
    """Let the checkout's training loop get the method's classes, whoever calls it."""
    module: Any = importlib.import_module("training.training_loop")
    training_loop = module.training_loop

    @functools.wraps(training_loop)
    def with_method(**kwargs: Any) -> Any:
        for name, change in changes.items():
            kwargs[name].update(change)
        share = kwargs["batch_size"] // kwargs["num_gpus"]
        kwargs["batch_gpu"] = max(kwargs["batch_gpu"], min(share, MAX_BATCH_GPU))
        if kwargs.get("rank", 0) == 0:
            correct_options(Path(kwargs["run_dir"]) / "training_options.json", kwargs, (*changes, "batch_gpu"))
        return training_loop(**kwargs)

    module.training_loop = with_method


def correct_options(path: Path, kwargs: dict[str, Any], names: Sequence[str]) -> None:
    """Let the run folder tell what is trained, which the script did not know."""
    if path.is_file():
        options = json.loads(path.read_text())
        options.update({name: kwargs[name] for name in names})
        path.write_text(json.dumps(options, indent=2))


def run_as_main(path: Path, arguments: Sequence[str]) -> None:
    """Run a script as if Python had been started with it."""
    main_module = ModuleType("__main__")
    main_module.__file__ = str(path)
    main_module.__spec__ = __spec__  # multiprocessing begins new processes with the module that this names
    sys.modules["__main__"] = main_module
    sys.argv[:] = [str(path), *arguments]
    exec(compile(path.read_bytes(), path, "exec", dont_inherit=True), vars(main_module))


def begin_process() -> dict[str, Any]:
    """Do in a process that the script has started what was done to the first; return the script's names."""
    orders = Orders(**json.loads(os.environ[ORDERS_VARIABLE]))
    attach(orders)
    names = runpy.run_path(str(Path(orders.checkout) / orders.script), run_name="__mp_main__")
    return names | {"__spec__": __spec__}


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("checkout", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(checkout: Path, script: str, arguments: tuple[str, ...]) -> None:
    """Run SCRIPT of the StyleGAN2-ADA code in folder CHECKOUT with ARGUMENTS.

    train.py also takes --cfg=msconD and --cfg=multiscale with the flags that README.md of this package lists. What the
    code misses in today's Python, PyTorch and SciPy is supplied.
    """
    orders, others = read_arguments(checkout, script, arguments)
    for message in attach(orders):
        click.echo(f"msconD.attach: {message}")
    os.environ[ORDERS_VARIABLE] = json.dumps(asdict(orders))
    run_as_main(checkout / script, others)


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":
    globals().update(begin_process())
