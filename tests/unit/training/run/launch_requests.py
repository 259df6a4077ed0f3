"""What train.py would ask of `training.run.launch`."""

from dataclasses import fields

from training.run.flags import Flags
from training.run.launch import prepare_run

CHOSEN = {"explicit": ("cfg",)}
"""Keeps a machine without a GPU from choosing ``--small``."""


def request(tmp_path, flags=None, **changes):
    """Flags of a new run, or with ``continue_run`` of an old one, and those of this session."""
    new = {} if flags is None else {"metrics": (), **CHOSEN, **flags}
    return Flags(**{"outdir": tmp_path / "runs", "device": "cpu", "progress": "none", **new, **changes})


def continued(run_dir, given=None, **changes):
    """The plan of ``--continue`` with the values of some flags on the command line."""
    return prepare_run(request(run_dir.parent, continue_run=str(run_dir), **on_command_line(given or {}), **changes))


def on_command_line(given):
    """The arguments of `Flags` for flags and settings of methods, by name."""
    names = {each.name for each in fields(Flags)}
    settings = {name: value for name, value in given.items() if name not in names}
    return {**{name: given[name] for name in given if name in names}, "settings": settings, "explicit": tuple(given)}
