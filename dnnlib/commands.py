"""The commands, and how they are called: ``python train.py`` in a checkout, ``mscond train`` where it is installed."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parents[1]
IS_INSTALLED = _FOLDER.name == "code" and _FOLDER.with_name("modules.py").is_file()
"""Whether these sources lie in the installed package, whose scripts nobody calls by path."""


@dataclass(frozen=True)
class Subcommand:
    """A script, and what the command ``mscond`` makes of it."""

    module: str
    function: str
    """Its click command in the module."""
    summary: str

    @property
    def script(self) -> str:
        """How ``python`` is asked for it in a checkout."""
        return f"-m {self.module}" if "." in self.module else f"{self.module}.py"


SUBCOMMANDS = {
    "dataset": Subcommand("dataset_tool", "main", "Make a dataset of photographs, or verify one."),
    "train": Subcommand("train", "main", "Train on a dataset, or continue a run."),
    "generate": Subcommand("generate", "generate_images", "Generate images with a trained network."),
    "mix": Subcommand("style_mixing", "generate_style_mix", "Mix the styles of generated images."),
    "project": Subcommand("projector", "run_projection", "Find the latent code of a photograph."),
    "edit": Subcommand("edit", "edit", "Find and apply directions of editing, and centers of truncation."),
    "score": Subcommand("calc_metrics", "calc_metrics", "Score a network, or one set of images against another."),
    "report": Subcommand("report", "main", "Write the page of a run, or one that compares several."),
    "compare": Subcommand("compare", "main", "Train and score methods and seeds side by side."),
    "convert": Subcommand("legacy", "convert_network_pickle", "Convert an older snapshot."),
    "export": Subcommand("training.inference.export", "export", "Export a generator: safetensors, ONNX, torch.export."),
    "plots": Subcommand("msconD.plots", "main", "Plot the logits and the contrastive task of runs."),
    "demo": Subcommand("demo", "main", "Draw scenes, train on them for minutes, generate images, score them."),
    "doctor": Subcommand("torch_utils.doctor", "main", "Say what this machine has, and what is missing."),
}


def how_to_run(script: str, *arguments: str) -> str:
    """Return how a script is called, for messages; what it returns can be pasted into the shell that runs this process.

    Args:
        script: ``train.py``, or ``-m training.inference.export``.
        arguments: Arguments of the script.
    """
    names = [name for name, subcommand in SUBCOMMANDS.items() if subcommand.script == script]
    command = f"mscond {names[0]}" if IS_INSTALLED and names else _in_checkout(script)
    return f"{command} {shlex.join(arguments)}" if arguments else command


def _in_checkout(script: str) -> str:
    if _is_current(_FOLDER) or IS_INSTALLED:
        return f"python {script}"
    if script.startswith("-m "):
        return f"env PYTHONPATH={shlex.quote(str(_FOLDER))} python {script}"
    return f"python {shlex.quote(str(_FOLDER / script))}"


def _is_current(folder: Path) -> bool:
    try:
        return Path.cwd().samefile(folder)
    except OSError:  # the current folder was deleted
        return False


def page(name: str) -> str:
    """Return where a page of the documentation lies, for messages."""
    return f"docs/{name}" if _is_current(_FOLDER) and not IS_INSTALLED else f"{_FOLDER}/docs/{name}"


def how_to_install(extra: str) -> str:
    """Return how the packages of an extra in ``pyproject.toml`` are installed, for messages.

    Whoever installed a wheel may have no checkout to install from, so the packages are named instead.
    """
    if not IS_INSTALLED:
        return (
            f"pip install '.[{extra}]'" if _is_current(_FOLDER) else f"pip install {shlex.quote(f'{_FOLDER}[{extra}]')}"
        )
    try:
        known = importlib.metadata.requires("mscond") or []
    except importlib.metadata.PackageNotFoundError:  # a copy of the package's folder
        known = []
    names = [text.split(";")[0].strip() for text in known if re.search(f"extra == ['\"]{extra}['\"]", text)]
    return f"pip install {' '.join(names)}" if names else f"pip install 'mscond[{extra}]'"
