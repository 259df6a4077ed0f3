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
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import torch

from msconD.attach_flags import Attachment, read_arguments, split_arguments
from msconD.checkout import SUPPORTED
from msconD.compat import apply_shims
from msconD.settings import MAX_BATCH_GPU, check_images_per_pass

BASE_BATCH = 32
"""Batch size of ``--cfg=stylegan2`` in the official code."""

ENVIRONMENT_VARIABLE = "MSCOND_ATTACH"


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
