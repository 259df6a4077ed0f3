"""What train.py would ask of `training.run.launch`."""

from training.run.launch import prepare_run
from training.run.options import Flags
from training.run.request import RunRequest

CHOSEN = {"explicit": frozenset({"cfg"})}
"""Keeps a machine without a GPU from choosing ``--small``."""


def request(tmp_path, flags=None, **changes):
    values = {
        "outdir": tmp_path / "runs",
        "continue_run": None,
        "flags": None if flags is None else Flags(**{"metrics": (), **CHOSEN, **flags}),
        "device": "cpu",
        "runtime": {"progress": "none"},
        "is_dry_run": False,
    }
    return RunRequest(**{**values, **changes})


def continued(run_dir, **changes):
    return prepare_run(request(run_dir.parent, continue_run=str(run_dir), **changes))
