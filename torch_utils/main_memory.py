"""The main memory that processes may use: that of the machine, or less in a container or a job of a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil

CONTROL_GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def main_memory_bytes() -> int:
    """Return how much main memory this process and those that it starts may use together."""
    return min([int(psutil.virtual_memory().total), *_group_limits()])


def is_limited() -> bool:
    """Return whether these processes may use less memory than the machine has."""
    return main_memory_bytes() < int(psutil.virtual_memory().total)


def _group_limits() -> Iterator[int]:
    """Yield the limits of the control groups of this process (cgroups(7)): of its own group and of all above it.

    A container often sees the files of its own group at the root, and not the folders that its path names.
    """
    for group, name in _groups():
        for folder in (group, *group.parents):
            with contextlib.suppress(OSError):
                limit = (folder / name).read_text().strip()
                if limit.isdecimal():  # not "max"
                    yield int(limit)


def _groups() -> Iterator[tuple[Path, str]]:
    """Yield the folder of each group that limits memory, and the name of the file with its limit."""
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except (OSError, ValueError):  # not Linux, or names that are not text
        return
    for line in lines:
        _number, controllers, path = (line.split(":", maxsplit=2) + ["", ""])[:3]
        inside = path.lstrip("/")
        if not controllers:  # version 2
            yield CONTROL_GROUPS / inside, "memory.max"
        elif "memory" in controllers.split(","):
            yield CONTROL_GROUPS / "memory" / inside, "memory.limit_in_bytes"
