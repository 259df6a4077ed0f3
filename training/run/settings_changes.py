"""What has changed in the settings of a run since its checkpoint was saved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, cast

from training.data.names import shown
from training.run.flags import Flags
from training.run.options import session_options
from training.run.settings import NOT_STORED, TrainingSettings

CHECKPOINTED_OPTIONS = ("G_opt_kwargs", "D_opt_kwargs", "augment_p", "resume_pkl")
"""Arguments whose changes have no effect on a continued run, because its checkpoint holds their results."""

MAX_SHOWN_CHANGES = 8


def comparable_options(settings: TrainingSettings) -> dict[str, Any]:
    """Return the settings that a checkpoint keeps, as JSON values, to compare them with later ones."""
    left_out = {*NOT_STORED, *session_options(Flags())}
    options = {each.name: getattr(settings, each.name) for each in fields(settings) if each.name not in left_out}
    return cast(dict[str, Any], json.loads(json.dumps(options, default=str)))


def describe_changes(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Describe in one line the settings that have changed since a checkpoint was saved.

    Args:
        before: What `comparable_options` returned when the checkpoint was saved. Settings that it lacks, as older
            versions had fewer, are not compared.
        now: What it returns now.

    Returns:
        The line; None if they are equal.
    """
    old = dict(_leaves(before))
    new = dict(_leaves({name: value for name, value in now.items() if name in before}))
    changed = [name for name in sorted({*old, *new}) if not (name in old and name in new and old[name] == new[name])]
    if not changed:
        return None
    few = [f"{shown(name)} {_brief(old, name)} -> {_brief(new, name)}" for name in changed[:MAX_SHOWN_CHANGES]]
    line = f"Settings that have changed since the checkpoint: {', '.join(few)}"
    if len(changed) > MAX_SHOWN_CHANGES:
        line += f" and {len(changed) - MAX_SHOWN_CHANGES} more"
    ineffective = sorted({name.split(".")[0] for name in changed} & {*CHECKPOINTED_OPTIONS})
    return f"{line}; no effect: {', '.join(ineffective)}, which the checkpoint holds" if ineffective else line


def _leaves(options: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield single values and lists by dotted names."""
    pending: list[tuple[str, Any]] = [(str(name), value) for name, value in options.items()]
    while pending:
        name, value = pending.pop()
        if isinstance(value, dict) and value:
            pending += [(f"{name}.{key}", item) for key, item in value.items()]
        else:
            yield name, value


def _brief(leaves: dict[str, Any], name: str) -> str:
    return shown(json.dumps(leaves[name])) if name in leaves else "unset"
