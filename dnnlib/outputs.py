"""Files that commands write."""

from __future__ import annotations

from pathlib import Path

from dnnlib.util import UserError


def check_replaceable_file(path: Path) -> None:
    """Make sure that writing a file replaces nothing but a file: `dnnlib.atomic` renames over pipes and devices, too.

    Raises:
        UserError: There is something else.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a regular file, and would be replaced: choose another name")
