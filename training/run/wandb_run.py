"""A run on Weights & Biases, which goes on under the same id when training is continued (``--log=wandb``)."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.errors import UserError
from dnnlib.json_file import write_json
from training.run.options_file import OPTIONS_FILE

ID_FILE = "wandb.json"
"""File in the run folder with the id of the run on Weights & Biases."""
PROJECT = "mscond"
"""Project, unless the environment variable ``WANDB_PROJECT`` names another."""


def check_wandb() -> None:
    """Make sure that wandb is there.

    Raises:
        UserError: It is not installed.
    """
    try:
        import wandb  # noqa: F401 (takes a second)
    except ImportError as error:
        raise UserError("--log=wandb needs a package that is not installed: pip install wandb") from error


class WandbRun:
    """Statistics and samples of one run on Weights & Biases; with ``WANDB_MODE=offline`` they stay in its folder.

    Neither source code nor console output is sent.

    Args:
        run_dir: Run folder.

    Raises:
        UserError: wandb cannot begin or continue the run, for example for want of a login.
    """

    def __init__(self, run_dir: Path) -> None:
        import wandb

        options = run_dir / OPTIONS_FILE
        try:
            self._run = wandb.init(
                id=_find_id(run_dir),
                name=run_dir.absolute().name,
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                dir=str(run_dir),
                config=json.loads(options.read_bytes()) if options.is_file() else None,
                resume="allow",
                settings=wandb.Settings(console="off", save_code=False, disable_git=True, silent=True),
            )
        except (wandb.Error, ValueError) as error:  # ValueError: an environment variable such as WANDB_MODE is wrong
            reason = " ".join(str(error).split())
            raise UserError(
                f"--log=wandb: {reason[:500]}; log in with `wandb login`, or set WANDB_MODE=offline"
            ) from error
        self._make_image: Any = wandb.Image

    def write(self, values: Mapping[str, float], step: int, timestamp: float | None = None) -> None:
        """Send values by name.

        Raises:
            OSError: It cannot be sent; training goes on.
        """
        time = {} if timestamp is None else {"_timestamp": timestamp}
        self._log({**values, **time}, step)

    def write_image(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Send an image, uint8 ``[H, W, C]`` with 1 or 3 channels.

        Raises:
            OSError: As for `write`.
        """
        self._log({name: self._make_image(pixels.squeeze())}, step)

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        with _errors_of_wandb():
            self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Wait until everything is sent.

        Raises:
            OSError: As for `write`.
        """
        with _errors_of_wandb():
            self._run.finish()


@contextmanager
def _errors_of_wandb() -> Iterator[None]:
    """Turn whatever wandb raises into OSError: not all of its errors are of a class of its own."""
    try:
        yield
    except Exception as error:
        raise OSError(f"Weights & Biases: {error}") from error


def _find_id(run_dir: Path) -> str:
    """Return the id under which the run began, or a new one."""
    path = run_dir / ID_FILE
    if not path.exists():
        write_json(path, {"id": secrets.token_hex(8)})
    try:
        run_id = json.loads(path.read_bytes())["id"]
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise UserError(f"{path} is damaged; delete it to begin a new run on Weights & Biases") from error
    if not (isinstance(run_id, str) and run_id.isalnum() and len(run_id) <= 64):
        raise UserError(f"{path} holds no id of letters and digits; delete it to begin a new run on Weights & Biases")
    return run_id
