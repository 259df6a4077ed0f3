"""Statistics of training: reported anywhere for almost nothing, collected over all processes now and then.

`report` adds a count, a sum and a sum of squares on the device that holds the values; nothing waits for that device
and nothing is communicated until `Collector.update`.
"""

from __future__ import annotations

import math
import re
import weakref
from typing import Any

import torch

from dnnlib.util import EasyDict
from torch_utils import distributed

_collectors: weakref.WeakSet[Collector] = weakref.WeakSet()
_process = EasyDict(rank=0, sync_device=None)


def init_multiprocessing(rank: int, sync_device: torch.device | None) -> None:
    """Tell how to sum over processes; needed only where there are several.

    Args:
        rank: This process.
        sync_device: Device of the tensors to exchange, which the process group must know; None for one process.
    """
    _process.update(rank=rank, sync_device=sync_device)


@torch.no_grad()
def report(name: str, value: Any) -> Any:
    """Add the elements of ``value`` to the statistics of every `Collector` that listens to ``name``.

    All processes must report the same names between two updates, an empty list where they have no value. Elements
    that are NaN make the mean of that round NaN.

    Args:
        name: For example ``'Loss/scores/fake'``.
        value: Number, list, array or tensor, of any shape and device, possibly empty.

    Returns:
        ``value``, unchanged.
    """
    listeners = [collector for collector in _collectors if collector._listens_to(name)]
    if listeners:
        x = value if isinstance(value, torch.Tensor) else torch.as_tensor(value, dtype=torch.float64)
        x = x.flatten().to(torch.float32 if x.device.type == "mps" else torch.float64)
        sums = torch.stack([x.sum(), x.dot(x)])
        for collector in listeners:
            collector._add(name, x.numel(), sums)
    return value


def report0(name: str, value: Any) -> Any:
    """Like `report`, counting the value of rank 0 only; every process calls it."""
    report(name, value if _process.rank == 0 else [])
    return value


class _Moments:
    """Count, sum and sum of squares of what one device reported under one name."""

    def __init__(self, num: int, sums: torch.Tensor) -> None:
        self.num = num
        self.sums = sums  # [2]

    def add(self, num: int, sums: torch.Tensor) -> None:
        self.num += num
        self.sums = self.sums + sums  # not in place: the first may have been made in inference mode


class Collector:
    """Count, mean and standard deviation of what was reported between its last two updates.

    Any number of collectors may listen; each has rounds of its own, the first from its construction on.

    Args:
        regex: Names to listen to, matched as a whole.
        keep_previous: A name without a report in the last round keeps its values from the round before.
            False: it has count 0 and mean NaN.
    """

    def __init__(self, regex: str = ".*", keep_previous: bool = True) -> None:
        self._pattern = re.compile(regex)
        self._keep_previous = keep_previous
        self._listens: dict[str, bool] = {}
        self._pending: dict[str, dict[torch.device, _Moments]] = {}  # the round under way, of this process
        self._collected: dict[str, list[float]] = {}  # the last round: count, sum, sum of squares of all processes
        _collectors.add(self)

    def _listens_to(self, name: str) -> bool:
        if name not in self._listens:
            self._listens[name] = self._pattern.fullmatch(name) is not None
        return self._listens[name]

    def _add(self, name: str, num: int, sums: torch.Tensor) -> None:
        by_device = self._pending.setdefault(name, {})
        if sums.device in by_device:
            by_device[sums.device].add(num, sums)
        else:
            by_device[sums.device] = _Moments(num, sums)

    def names(self) -> list[str]:
        """Return the names that updates have seen, in alphabetical order."""
        return sorted(self._collected)

    def update(self) -> None:
        """End the round: sum it over devices and processes. Every process must call it."""
        names = sorted(self._pending)
        totals = self._sum_devices(names)
        if _process.sync_device is not None and names:
            totals = totals.to(_process.sync_device)
            distributed.sum_(totals)
        for name, moments in zip(names, totals.tolist(), strict=True):
            if moments[0] or not self._keep_previous or name not in self._collected:
                self._collected[name] = moments
        # An entry stays for every name, so that all processes exchange the same ones next time.
        self._pending = {name: {} for name in names}

    def _sum_devices(self, names: list[str]) -> torch.Tensor:
        """Bring the round to the CPU with one copy per device. [name, 3], float64."""
        totals = torch.zeros(len(names), 3, dtype=torch.float64)
        for device in {device for name in names for device in self._pending[name]}:
            rows = [row for row, name in enumerate(names) if device in self._pending[name]]
            moments = [self._pending[names[row]][device] for row in rows]
            totals[rows, 0] += torch.tensor([each.num for each in moments], dtype=torch.float64)
            totals[rows, 1:] += torch.stack([each.sums for each in moments]).cpu().double()
        return totals

    def num(self, name: str) -> int:
        """Return how many elements were reported, 0 for an unknown name."""
        return int(self._collected.get(name, [0])[0])

    def mean(self, name: str) -> float:
        """Return the mean, NaN without elements."""
        num, total, _ = self._collected.get(name, (0.0, 0.0, 0.0))
        return total / num if num else math.nan

    def std(self, name: str) -> float:
        """Return the standard deviation of the elements themselves (1/N), NaN without elements."""
        mean = self.mean(name)
        if not math.isfinite(mean):
            return math.nan
        num, _, total_squared = self._collected[name]
        return math.sqrt(max(total_squared / num - mean**2, 0.0))

    def as_dict(self) -> EasyDict:
        """Return name -> EasyDict(num, mean, std) for all names."""
        return EasyDict(
            {name: EasyDict(num=self.num(name), mean=self.mean(name), std=self.std(name)) for name in self.names()}
        )

    def __getitem__(self, name: str) -> float:
        return self.mean(name)

    def state_dict(self) -> dict[str, Any]:
        """Return the round under way and the last one as lists of numbers that JSON keeps exactly.

        The round under way is that of this process: an exact continuation needs the state of each.
        """
        pending = {
            name: {str(device): [each.num, *each.sums.tolist()] for device, each in by_device.items()}
            for name, by_device in self._pending.items()
        }
        return {"pending": pending, "collected": {name: list(values) for name, values in self._collected.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken, on whatever devices."""
        self._collected = {name: list(values) for name, values in state["collected"].items()}
        self._pending = {name: {} for name in state["pending"]}
        for name, by_device in state["pending"].items():
            for num, *sums in by_device.values():  # the machine may have other devices now
                self._add(name, num, torch.tensor(sums, dtype=torch.float64))
