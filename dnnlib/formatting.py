"""Numbers, durations and names as text for people."""

from __future__ import annotations


def format_number(value: float, digits: int = 4) -> str:
    """Write a number with ``digits`` digits, or all of its whole part up to 15, without a power of ten."""
    is_long = 10**digits - 0.5 <= abs(value) < 1e15
    return f"{value:.0f}" if is_long else f"{value:.{digits}g}"


def format_time(seconds: float) -> str:
    """Format a duration, with at most three units: ``12s``, ``1m 05s``, ``1h 02m 03s``, ``1d 02h 03m``."""
    minutes, secs = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02}h {minutes:02}m"
    if hours:
        return f"{hours}h {minutes:02}m {secs:02}s"
    if minutes:
        return f"{minutes}m {secs:02}s"
    return f"{secs}s"


def printable(name: str) -> str:
    """Return a name as it is, or escaped if printing it would do something to the terminal."""
    return name if name.isprintable() else ascii(name)


def plural(count: int, noun: str) -> str:
    """Write a number of things: '1 image', '2 images', '3 classes'."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith('s') else 's'}"
