"""Signs in the statistics of a tick that training is going wrong, in plain words."""

from __future__ import annotations

from collections.abc import Iterator

from torch_utils.training_stats import Collector

PREFIX = "Health/nonfinite_grads/"


def warnings(stats: Collector) -> Iterator[str]:
    """Yield one line for each problem."""
    for name in stats.names():
        if name.startswith(PREFIX) and stats.mean(name) > 0:
            yield (
                f"Warning: training diverges: {stats.mean(name):.0f} gradient values per step of phase "
                f"{name.removeprefix(PREFIX)} were not finite and were replaced; lower --glr and --dlr or raise --gamma"
            )
