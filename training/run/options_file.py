"""``training_options.json``: the arguments of the training loop, with which a run is continued."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dnnlib.errors import UserError
from dnnlib.json_file import write_json
from training.run.json_files import parse_json, read_small_file

OPTIONS_FILE = "training_options.json"


def write_options(run_dir: Path, kwargs: dict[str, Any]) -> None:
    """Record the arguments of the training loop.

    Raises:
        UserError: The run folder cannot be written to.
    """
    try:
        write_json(run_dir / OPTIONS_FILE, kwargs, indent=2)
    except OSError as error:
        raise UserError(f"{run_dir} cannot be written to: {error.strerror or error}") from error


def read_options(run_dir: Path) -> dict[str, Any]:
    """Read what `write_options` wrote.

    Raises:
        UserError: The file is damaged, or was written by StyleGAN2-ADA's own ``train.py``, whose runs cannot be
            continued.
    """
    path = run_dir / OPTIONS_FILE
    try:
        kwargs: dict[str, Any] = parse_json(read_small_file(path))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else ascii(str(error)[:100])[1:-1]
        raise UserError(f"{path} cannot be read ({reason}); it must be the one that train.py wrote") from error
    if not isinstance(kwargs, dict) or "run_dir" in kwargs:
        raise UserError(f"{path} is not of this train.py; start a new run with --resume=<snapshot.pkl> instead")
    return kwargs
