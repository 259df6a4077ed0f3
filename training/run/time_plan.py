"""Ticks and snapshots of a run whose length is a time, such as ``--time=8h``."""

from __future__ import annotations

import math
import re

from dnnlib.formatting import format_time

UNIT_SEC = {"s": 1, "m": 60, "h": 3600, "d": 86400}
MAX_DAYS = 3650

UNLIMITED_KIMG = 1_000_000
"""Length of a run that is limited by time only: forty times that of published ones."""

MIN_TICKS = 100
MAX_TICK_SEC = 600.0
"""Longest tick: checkpoints are saved at the end of a tick, so that a crash loses at most about one."""
NUM_SNAPSHOTS = 20


def parse_time(text: str) -> float:
    """Return the seconds of a time such as ``30m``, ``8h``, ``1.5d`` or ``1d12h``.

    Raises:
        ValueError: It is something else, or 0, or more than ten years.
    """
    parts = re.findall(r"(\d{1,9}(?:\.\d{1,9})?)([smhd])", text)
    seconds = sum(float(number) * UNIT_SEC[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not 0 < seconds <= MAX_DAYS * UNIT_SEC["d"]:
        raise ValueError(f"{text[:100]!a} is not a time; give one such as 30m, 8h, 2d or 1d12h")
    return seconds


def time_name(seconds: float) -> str:
    """Write a time as part of a file name, such as ``8h`` or ``1d12h``."""
    parts, rest = "", round(seconds)
    for unit, unit_sec in reversed(UNIT_SEC.items()):
        number, rest = divmod(rest, unit_sec)
        parts += f"{number}{unit}" if number else ""
    return parts or "0s"


def flag_to_train_longer(done_kimg: float, total_kimg: float, limit_sec: float | None, spent_sec: float = 0) -> str:
    """Return the flag that trains a finished run further: it doubles whichever limit has ended the run.

    Args:
        done_kimg: Thousands of images seen.
        total_kimg: Length of the run.
        limit_sec: Time limit of the run; None without one.
        spent_sec: Time spent, which exceeds the limit if the last iteration or metric took long.
    """
    if limit_sec is not None and done_kimg < total_kimg:
        return f"--time={time_name(2 * max(limit_sec, spent_sec))}"
    return f"--kimg={2 * round(done_kimg + 1)}"


def num_ticks(limit_sec: float) -> int:
    """Return the number of ticks in a run of a given time."""
    return max(MIN_TICKS, math.ceil(limit_sec / MAX_TICK_SEC))


def ticks_per_snapshot(limit_sec: float) -> int:
    """Return the ticks between samples and snapshots, of which there are about twenty."""
    return num_ticks(limit_sec) // NUM_SNAPSHOTS


def plan_nimg(limit_sec: float, elapsed_sec: float, cur_nimg: int, sec_per_kimg: float) -> tuple[float, float]:
    """Return the length of a run and of a tick in images, at the present pace."""
    pace = 1000 / max(sec_per_kimg, 1e-6)
    return cur_nimg + max(limit_sec - elapsed_sec, 0) * pace, limit_sec / num_ticks(limit_sec) * pace


def describe_length(total_kimg: float, limit_sec: float | None) -> str:
    """Describe the length of a run in a few words."""
    if limit_sec is None:
        return f"{total_kimg:g} kimg"
    return format_time(limit_sec) + ("" if total_kimg == UNLIMITED_KIMG else f", at most {total_kimg:g} kimg")
