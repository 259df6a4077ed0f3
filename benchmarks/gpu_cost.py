"""What an iteration of training would cost on a GPU, counted without one: launches, bytes, arithmetic, waits.

``python -m benchmarks.gpu_cost --res=256 --cfg=paper256 --batch-gpu=64`` runs the real phases (loss, augmentation,
optimizers) on the meta device, whose tensors have no data, and counts what their operators would launch, read and
write; `benchmarks.meter` has the rules. All flags of ``train.py`` that concern networks, losses and augmentation are
understood. The total of an iteration counts a phase as often as it runs: 1 for Gmain and Dmain, 1/4 for Greg, 1/16 for
Dreg. It is what one process does between loading images and the moving average of G; the exchange of gradients between
processes is left out. Styles are mixed in every batch (in training, nine of ten), and Adam counts as PyTorch's fused
kernel.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import click
import torch

from benchmarks.iteration import Iteration, build_iteration, parse_flags
from benchmarks.meter import META, Call, Meter, Wait
from dnnlib.errors import UserError
from torch_utils.ops.kernels import NAMESPACE
from torch_utils.training_stats import Collector
from training.phases import Phase
from training.run.flags import Flags

CLASSES = {
    "matrix product": ("mm", "addmm", "bmm", "baddbmm", "dot"),
    "reduction": ("sum", "mean", "amax", "amin", "std", "var", "all", "any", "linalg_vector_norm", "argmax", "topk"),
    "copy": ("_to_copy", "clone", "copy_", "cat", "stack", "repeat", "constant_pad_nd", "slice_backward"),
    "random": ("rand", "randn", "rand_like", "randn_like", "bernoulli", "uniform_", "normal_"),
}
"""Classes of operators in the table, apart from those that `operator_class` knows by other signs."""


@dataclass(frozen=True)
class Cost:
    """Sums over operators."""

    launches: float = 0
    read_bytes: float = 0
    written_bytes: float = 0
    flops: float = 0

    def plus(self, call: Call, weight: float) -> Cost:
        """Add an operator ``weight`` times."""
        return Cost(
            self.launches + weight * call.launches,
            self.read_bytes + weight * call.read_bytes,
            self.written_bytes + weight * call.written_bytes,
            self.flops + weight * call.flops,
        )

    @property
    def gigabytes(self) -> float:
        """Read and written, in 10^9 bytes."""
        return (self.read_bytes + self.written_bytes) / 1e9


@dataclass(frozen=True)
class Trace:
    """What the phases of one iteration do."""

    calls: list[Call]
    waits: list[Wait]
    weights: dict[str, float]
    """How often a phase runs per iteration."""

    def grouped(self, key: Callable[[Call], str]) -> dict[str, Cost]:
        """Return costs per iteration by a property of operators."""
        costs: dict[str, Cost] = {}
        for call in self.calls:
            costs[key(call)] = costs.get(key(call), Cost()).plus(call, self.weights[call.phase])
        return costs

    @property
    def total(self) -> Cost:
        """Cost per iteration."""
        return self.grouped(lambda call: "")[""]


def trace(flags: Flags, resolution: int) -> Trace:
    """Count the phases of one process for ``flags`` of ``train.py``; the same numbers every time.

    Raises:
        UserError: Flags contradict each other.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the margins of augmentation are random
        iteration = build_iteration(flags, resolution, META)
        if getattr(iteration.loss, "style_mixing_prob", 0) > 0:
            iteration.loss.style_mixing_prob = 1
        meter = Meter()
        collector = Collector()  # what is reported costs launches only if someone listens
        # Constants are made at first use, which does not count; the other phases have the same ones.
        for phase in (each for each in iteration.phases if each.interval == 1):
            _count(iteration, phase, Meter())
        for phase in iteration.phases:
            _count(iteration, phase, meter)
        del collector
    return Trace(meter.calls, meter.waits, {phase.name: 1 / phase.interval for phase in iteration.phases})


def _count(iteration: Iteration, phase: Phase, meter: Meter) -> None:
    def step() -> None:
        meter.count_fused_adam(phase.optimizer)

    with mock.patch.object(phase.optimizer, "step", step), meter.during(phase.name):
        iteration.run(phase)


def operator_class(call: Call) -> str:
    """Return the kind of work that an operator does."""
    namespace, _, name = call.operator.rpartition("::")
    if namespace == NAMESPACE:
        return call.operator
    if name.endswith("(grouped)"):
        return "filter by grouped convolution"
    if name.startswith("convolution"):
        return "convolution"
    if name.startswith("_foreach_") or not namespace:
        return name
    return next((kind for kind, names in CLASSES.items() if name in names), "element-wise")


GROUPS: dict[str, Callable[[Call], str]] = {
    "class": operator_class,
    "operator": lambda call: f"{call.operator} {call.dtype}",
    "source": lambda call: call.source,
}
"""Values of ``--by``."""


def table(title: str, costs: Iterable[tuple[str, Cost]]) -> str:
    """Return a line per cost."""
    lines = [f"{'launches':>10} {'GB read':>9} {'GB written':>11} {'Tflop':>8}  {title}"]
    for name, cost in costs:
        read_gb, written_gb, tflop = cost.read_bytes / 1e9, cost.written_bytes / 1e9, cost.flops / 1e12
        lines.append(f"{cost.launches:10.1f} {read_gb:9.2f} {written_gb:11.2f} {tflop:8.3f}  {name}")
    return "\n".join(lines)


def report(traced: Trace, by: str, order: str, num_lines: int) -> str:
    """Return the tables that the command prints."""
    phases = {
        f"{name}, run {traced.weights[name]:g} times": cost
        for name, cost in traced.grouped(lambda call: call.phase).items()
    }
    groups = sorted(traced.grouped(GROUPS[by]).items(), key=lambda item: -getattr(item[1], order))
    total = traced.total
    waits = Counter(traced.waits)
    return "\n\n".join(
        [
            table("phase, weighted by how often it runs", phases.items()),
            table(by, groups[:num_lines]),
            f"total of an iteration: {total.launches:.0f} launches, {total.gigabytes:.1f} GB, "
            f"{total.flops / 1e12:.2f} Tflop",
            "the host waits for the GPU: " + ("never" if not waits else ""),
        ]
    ) + "".join(f"\n  {num} x {wait.phase}: {wait.operator} in {wait.source}" for wait, num in waits.items())


@click.command(context_settings={"ignore_unknown_options": True, "max_content_width": 120})
@click.option("--res", "resolution", type=int, default=256, show_default=True, help="Side of the images in pixels.")
@click.option("--by", type=click.Choice(list(GROUPS)), default="class", show_default=True, help="Rows of the table.")
@click.option("--order", type=click.Choice(["gigabytes", "launches", "flops"]), default="gigabytes", show_default=True)
@click.option("--lines", "num_lines", type=int, default=30, show_default=True, help="Most rows to print.")
@click.option("--json", "is_json", is_flag=True, help="Print the totals as one JSON line instead.")
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def main(resolution: int, by: str, order: str, num_lines: int, is_json: bool, flags: tuple[str, ...]) -> None:
    """Count an iteration of train.py with these FLAGS of it, such as --cfg=paper256 --batch-gpu=64 --aug=noaug."""
    try:
        traced = trace(parse_flags(flags), resolution)
    except UserError as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(summary(traced)) if is_json else report(traced, by, order, num_lines))


def summary(traced: Trace) -> dict[str, Any]:
    """Return the totals of an iteration, and where the host waits."""
    total = traced.total
    return {
        "launches": total.launches,
        "gigabytes": total.gigabytes,
        "teraflops": total.flops / 1e12,
        "waits": [dataclasses.asdict(wait) for wait in traced.waits],
    }


if __name__ == "__main__":
    main()
