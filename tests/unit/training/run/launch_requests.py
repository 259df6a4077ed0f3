"""What train.py would ask of `training.run.launch`."""

from training.run.launch import RunRequest, prepare_run
from training.run.options import Flags


def request(tmp_path, flags=None, **changes):
    values = {
        "outdir": tmp_path / "runs",
        "continue_run": None,
        "flags": None if flags is None else Flags(**{"metrics": (), **flags}),
        "device": "cpu",
        "runtime": {"progress": "none"},
        "is_dry_run": False,
    }
    return RunRequest(**{**values, **changes})


def continued(run_dir, **changes):
    return prepare_run(request(run_dir.parent, continue_run=str(run_dir), **changes))
