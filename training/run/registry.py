"""The values of ``train.py --cfg``, and how a method adds its own without touching this package.

A method is a folder at the top level with a ``config.py`` that defines ``CONFIGURATIONS``, a sequence of
`Configuration`; it is found in a plain clone. Installed packages announce theirs by an entry point of group
``mscond.configurations`` that names such a sequence. Nothing here imports torch, so that ``--help`` is fast; neither
should a ``config.py``.

The settings of a method are the fields of a dataclass. Each becomes a keyword argument of the method's discriminator or
loss, and a flag of the same name::

    @dataclass(frozen=True, kw_only=True)
    class HeadSettings:
        num_heads: int = field(default=4, metadata={"type": click.IntRange(min=1), "help": "Heads of D."})

``type`` is a click type, ``help`` one line; ``source`` may say where the default comes from. Values are stored as JSON.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from training.run.presets import PRESETS, Preset, auto_preset

ENTRY_POINT_GROUP = "mscond.configurations"


@dataclass(frozen=True)
class NoSettings:
    """Of a class that has no settings of its own."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One value of ``--cfg``: hyperparameters, the classes to train with, and their settings."""

    name: str
    preset: Callable[[int, int], Preset]
    """(resolution, number of GPUs) -> hyperparameters."""
    discriminator: str = "training.networks.Discriminator"
    loss: str = "training.loss.StyleGAN2Loss"
    D_settings: type = NoSettings
    """Dataclass of the discriminator's settings."""
    loss_settings: type = NoSettings
    """Dataclass of the loss's settings."""
    D_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Fixed arguments of the discriminator."""
    loss_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Fixed arguments of the loss."""
    check: Callable[[Mapping[str, Any]], None] | None = None
    """Raises ValueError if the arguments of the training loop do not suit the method."""

    @property
    def settings(self) -> dict[str, dataclasses.Field[Any]]:
        """The settings of both classes by name."""
        return {
            setting.name: setting
            for settings in (self.D_settings, self.loss_settings)
            for setting in dataclasses.fields(settings)
        }


def setting_values(settings: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of all settings of a dataclass: those in ``given``, which may hold others too, or the defaults.

    Raises:
        ValueError: The dataclass refuses a value.
    """
    names = {setting.name for setting in dataclasses.fields(settings)}
    return dataclasses.asdict(settings(**{name: value for name, value in given.items() if name in names}))


@functools.cache
def configurations() -> dict[str, Configuration]:
    """Return all configurations by name: StyleGAN2-ADA's, those of the method folders, those of installed packages.

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
    """Use the same hyperparameters for every resolution and number of GPUs."""
    return lambda resolution, num_gpus: preset


def _from_folders() -> Iterator[Configuration]:
    root = Path(__file__).parents[2]
    for path in sorted(root.glob("*/config.py")):
        if (path.parent / "__init__.py").exists():
            yield from importlib.import_module(f"{path.parent.name}.config").CONFIGURATIONS


def _from_entry_points() -> Iterator[Configuration]:
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        yield from entry_point.load()
