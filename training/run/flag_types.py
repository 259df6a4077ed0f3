"""Types of the values of flags that click does not have."""

from __future__ import annotations

from typing import Any

import click

from training.run.time_plan import parse_time


class Metrics(click.ParamType):
    """A comma list of names; 'none' is the empty one."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Split the list; whether the metrics exist is checked by those who know them."""
        if not isinstance(value, str):
            return tuple(value)
        if value.lower() == "none":
            return ()
        names = filter(None, (name.strip() for name in value.split(",")))
        once = tuple(dict.fromkeys(names))  # computing one again would only take time
        return once or self.fail("it is empty; give names of metrics, or none", param, ctx)


class SnapshotFormats(click.ParamType):
    """A comma list of formats; the pickle is what every other script reads, so it is always there."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Split the list and check it."""
        formats = tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else tuple(value)
        if not {"pkl"} <= set(formats) <= {"pkl", "safetensors"}:
            self.fail(f"expected pkl or pkl,safetensors, got {value!r}", param, ctx)
        return formats


class Duration(click.ParamType):
    """A time such as 8h, in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        try:
            return parse_time(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
