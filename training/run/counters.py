"""How far a run is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Counters:
    """How far a run is."""

    cur_nimg: int = 0
    batch_idx: int = 0
    cur_tick: int = 0
    tick_start_nimg: int = 0
    last_snapshot_nimg: int = -1
    """At the last network snapshot or sample grid; -1 before the first."""
    total_sec: float = 0.0
    """Since the run began, not counting the time between its parts."""
    tick_sec: float = 0.0
    """Spent on training in this tick."""
    data_wait_sec: float = 0.0
    """The part of it spent waiting for images."""
    maintenance_sec: float = 0.0
    """Between the previous tick and this one."""
    planned_nimg: float = 0.0
    """Expected length in images, if the time is limited."""
    planned_tick_nimg: float = 0.0
    """Length of a tick in images, likewise."""
    unscored_snapshot: str = ""
    """Name of the snapshot that metrics have begun to score; empty if there is none."""

    def state_dict(self) -> dict[str, Any]:
        """Return all of them."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; counters that only the version that wrote it had are left out.

        A counter that this version did not have keeps its default.
        """
        for name, value in (
            Counters(**{name: state[name] for name in asdict(self) if name in state}).state_dict().items()
        ):
            setattr(self, name, value)
