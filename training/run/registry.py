"""The values of ``train.py --cfg``, and how a method adds its own without touching this package.

A method is a folder at the top level with a ``config.py`` that defines ``CONFIGURATIONS``, a sequence of
`Configuration`; it is found in a plain clone. Installed packages announce theirs by an entry point of group
``mscond.configurations`` that names such a sequence. Nothing here imports torch, so that ``--help`` is quick; neither
should a ``config.py``.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from training.run.presets import PRESETS, Preset, auto_preset

ENTRY_POINT_GROUP = "mscond.configurations"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting of a method: a flag of ``train.py`` that becomes a keyword argument of the method's class."""

    flag: str
    """For example ``--con-weight``."""
    target: str
    """Which class takes it: ``D_kwargs`` or ``loss_kwargs``."""
    key: str
    """Name of the keyword argument."""
    default: Any
    """Value without the flag, as the class takes it."""
    parse: Callable[[str], Any] = str
    """From the text on the command line to the value; raises ValueError with the allowed values."""
    metavar: str = "TEXT"
    help: str
    """One line, with the source of the default."""

    @property
    def parameter(self) -> str:
        """The flag as a Python name."""
        return self.flag.lstrip("-").replace("-", "_")


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One value of ``--cfg``: hyperparameters, the classes to train with, and their settings."""

    name: str
    preset: Callable[[int, int], Preset]
    """(resolution, number of GPUs) -> hyperparameters."""
    discriminator: str = "training.networks.Discriminator"
    loss: str = "training.loss.StyleGAN2Loss"
    D_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Fixed arguments of the discriminator."""
    loss_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Fixed arguments of the loss."""
    settings: tuple[Setting, ...] = ()


@functools.cache
def configurations() -> dict[str, Configuration]:
    """All configurations by name: StyleGAN2-ADA's, those of the method folders, those of installed packages.

    Raises:
        ValueError: Two of them have the same name.
    """
    found: dict[str, Configuration] = {}
    for configuration in (*_own(), *_from_folders(), *_from_entry_points()):
        if configuration.name in found:
            raise ValueError(f"--cfg={configuration.name} is defined twice; rename or uninstall one of the methods")
        found[configuration.name] = configuration
    return found


def _own() -> Iterator[Configuration]:
    yield Configuration(name="auto", preset=auto_preset)
    for name, preset in PRESETS.items():
        yield Configuration(name=name, preset=constant(preset))


def constant(preset: Preset) -> Callable[[int, int], Preset]:
    """The same hyperparameters for every resolution and number of GPUs."""
    return lambda resolution, num_gpus: preset


def _from_folders() -> Iterator[Configuration]:
    root = Path(__file__).parents[2]
    for path in sorted(root.glob("*/config.py")):
        if (path.parent / "__init__.py").exists():
            yield from importlib.import_module(f"{path.parent.name}.config").CONFIGURATIONS


def _from_entry_points() -> Iterator[Configuration]:
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        yield from entry_point.load()
