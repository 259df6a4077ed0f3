"""Progress of a run, as saved in checkpoints."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Counters:
    """Progress of a run, as saved in checkpoints."""

    cur_nimg: int = 0
    batch_idx: int = 0
    cur_tick: int = 0
    tick_start_nimg: int = 0
    last_snapshot_nimg: int = -1
    """Images seen at the last network snapshot or sample grid; -1 before the first."""
    total_sec: float = 0.0
    """Seconds since the run began, without the time between its sessions."""
    tick_sec: float = 0.0
    """Seconds spent on training in this tick."""
    data_wait_sec: float = 0.0
    """Those of them spent waiting for images."""
    maintenance_sec: float = 0.0
    """Seconds between the previous tick and this one."""
    planned_nimg: float = 0.0
    """Expected length in images, if the time is limited."""
    planned_tick_nimg: float = 0.0
    """Length of a tick in images, if the time is limited."""
    steps_per_kimg: int = 0
    """Steps of the event files: 1 if they count thousands of images, 1000 if images; 0 until the run has begun."""
    unsaved_snapshot: str = ""
    """Name of the last snapshot, if it could not be written; empty if it could."""
    unscored_snapshot: str = ""
    """Name of the snapshot that metrics have begun to score; empty if there is none."""

    def state_dict(self) -> dict[str, Any]:
        """Return all counters by name."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, perhaps in another version of this class.

        Counters that only that version has are ignored; those that it lacks get their defaults.
        """
        known = {name: state[name] for name in asdict(self) if name in state}
        for name, value in asdict(Counters(**known)).items():
            setattr(self, name, value)
