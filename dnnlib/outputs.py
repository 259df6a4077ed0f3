"""Files that commands write."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dnnlib.errors import UserError


def check_replaceable_file(path: Path) -> None:
    """Refuse to overwrite anything but a regular file: `dnnlib.atomic` would rename over pipes and devices, too.

    Raises:
        UserError: The path is a folder, a pipe or a device.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a regular file, and would be replaced: choose another name")


def keep_inputs(outputs: Iterable[Path], **inputs: object) -> None:
    """Refuse to write over what a command reads.

    Args:
        outputs: Files or folders that will be written.
        inputs: What is read, by the parameter of its option; what does not exist, such as a URL, is ignored.

    Raises:
        UserError: An output is the same file or folder as an input.
    """
    read = {name.replace("_", "-"): Path(str(path)) for name, path in inputs.items()}
    for output in outputs:
        for flag, path in read.items():
            if _is_same(output, path):
                raise UserError(f"{output} would replace --{flag}={path}: choose another folder or name")


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):  # one of them is not there, or no path
        return False
