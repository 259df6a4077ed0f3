"""Estimates the memory of a process before training begins, from a rehearsal and from measured overheads.

docs/benchmarks.md compares the estimates with measured peaks.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from dataclasses import dataclass

import torch

from dnnlib.commands import how_to_run
from dnnlib.errors import describe
from dnnlib.heartbeat import heartbeat
from torch_utils.main_memory import is_limited, main_memory_bytes
from training.run.dataset_info import DatasetInfo
from training.run.options_file import OPTIONS_FILE
from training.run.rehearsal import Rehearsal, rehearse
from training.run.settings import TrainingSettings

BASE_BYTES = {"cpu": 433 << 20, "cuda": 500 << 20}
"""Memory of a process without networks: Python, torch and its libraries in main memory (measured); the context and
libraries of a GPU (a guess)."""
WORKSPACE_GRADIENTS = {"cpu": 5, "cuda": 1}
"""Memory of convolutions besides tensors, in multiples of the gradients of the larger network: weights in other
layouts, partial sums of weight gradients, gaps between blocks (measured on a CPU)."""
FILL = 0.9
"""Fraction of the memory that a run may take: other programs need some, and the estimate may be wrong."""


class RehearsalError(RuntimeError):
    """A method cannot be rehearsed, as for operators that the meta device lacks; the message says what failed."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Peak memory of one process, in bytes."""

    base_bytes: int
    lasting_bytes: int
    """Weights and moments of Adam."""
    gradient_bytes: int
    """Gradients, and workspaces, which grow with the weights too."""
    pass_bytes: float
    """Activations and second derivatives of the images of a pass."""
    batch_gpu: int

    def peak_bytes(self, batch_gpu: int | None = None) -> float:
        """Return the peak for a number of images per pass, by default that of the run."""
        of_images = self.pass_bytes * (batch_gpu or self.batch_gpu) / self.batch_gpu
        return self.base_bytes + self.lasting_bytes + self.gradient_bytes + of_images


def legal_batch_gpus(settings: TrainingSettings) -> list[int]:
    """List the numbers of images per pass that a run could have, in ascending order."""
    share = settings.batch_size // settings.num_gpus
    group = settings.D_kwargs.get("epilogue_kwargs", {}).get("mbstd_group_size") or 1
    return [num for num in range(1, share + 1) if share % num == 0 and num % min(group, num) == 0]


def estimate_memory(settings: TrainingSettings, dataset: DatasetInfo, device: torch.device) -> MemoryEstimate:
    """Estimate the memory of one process.

    Raises:
        RehearsalError: As for `rehearsed`.
    """
    rehearsal = rehearsed(settings, dataset, device)
    kind = "cuda" if device.type == "cuda" else "cpu"
    return MemoryEstimate(
        base_bytes=BASE_BYTES[kind],
        lasting_bytes=rehearsal.weight_bytes + rehearsal.optimizer_bytes,
        gradient_bytes=(1 + WORKSPACE_GRADIENTS[kind]) * rehearsal.gradient_bytes,
        pass_bytes=max(rehearsal.pass_bytes - rehearsal.gradient_bytes, 0),
        batch_gpu=settings.batch_gpu,
    )


def rehearsed(settings: TrainingSettings, dataset: DatasetInfo, device: torch.device) -> Rehearsal:
    """Rehearse an iteration of a run.

    Raises:
        RehearsalError: The method cannot be rehearsed, which does not mean that it cannot be trained.
    """
    labels = {"use_labels": settings.uses_labels}
    relevant = dataclasses.replace(settings, training_set_kwargs=labels, metric_set_kwargs=None, resume_pkl=None)
    images = dataclasses.replace(dataset, name="", num_images=0, label_summary="")
    with heartbeat(lambda: "Still estimating memory and time ..."):
        return _rehearsed(json.dumps(dataclasses.asdict(relevant), sort_keys=True), images, device.type)


@functools.lru_cache(maxsize=16)
def _rehearsed(settings_json: str, dataset: DatasetInfo, device_type: str) -> Rehearsal:
    settings = TrainingSettings(**json.loads(settings_json))
    try:
        return rehearse(settings, dataset, on_cpu=device_type != "cuda")
    except RuntimeError as error:  # methods of others; an estimate must not keep them from training
        raise RehearsalError(describe(error)[:200]) from error


def device_bytes(device: torch.device) -> int:
    """Return the memory of a GPU, or the main memory that all processes together may use."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    return main_memory_bytes()


def _has(device: torch.device) -> str:
    gib = f"{device_bytes(device) / 2**30:.1f} GiB"
    if device.type == "cuda":
        return f"the GPU has {gib}"
    return f"{gib} of main memory may be used here" if is_limited() else f"this machine has {gib} of main memory"


def limit_per_process(settings: TrainingSettings, device: torch.device) -> float:
    """Return how many bytes a process of a run may take."""
    return FILL * device_bytes(device) / (1 if device.type == "cuda" else settings.num_gpus)


def fitting_batch_gpu(settings: TrainingSettings, estimate: MemoryEstimate, limit_bytes: float) -> int | None:
    """Return the most images per pass of a run that fit into some memory, None if not even one does."""
    return max((num for num in legal_batch_gpus(settings) if estimate.peak_bytes(num) <= limit_bytes), default=None)


def describe_memory(settings: TrainingSettings, dataset: DatasetInfo, device: torch.device) -> list[str]:
    """Describe the memory that a run needs and which ``--batch-gpu`` fits; a second line warns if it may run out."""
    try:
        estimate = estimate_memory(settings, dataset, device)
    except RehearsalError as error:
        return [f"Memory:     unknown ({_has(device)}), as the method cannot be rehearsed: {error}"]
    fitting = fitting_batch_gpu(settings, estimate, limit_per_process(settings, device))
    fits = "no --batch-gpu fits" if fitting is None else f"--batch-gpu up to {fitting} fits"
    lines = [f"Memory:     about {estimate.peak_bytes() / 2**30:.1f} GiB per process ({_has(device)}; {fits})"]
    if fitting is None:
        lines.append("Warning: memory may run out; lower --cbase or --cmax, or use smaller images")
    elif fitting < settings.batch_gpu:
        lines.append(f"Warning: memory may run out; --batch-gpu={fitting} fits")
    return lines


def out_of_memory_advice(settings: TrainingSettings, run_dir: object) -> str:
    """Return the advice for a run whose memory has run out: the next smaller ``--batch-gpu``."""
    smaller = max((each for each in legal_batch_gpus(settings) if each < settings.batch_gpu), default=None)
    if smaller is None:
        return "stop other programs, or start a run with a smaller --cbase; checkpoints can be continued"
    return (
        f"stop other programs, or set batch_gpu to {smaller} in {run_dir}/{OPTIONS_FILE} and continue from the "
        f"last checkpoint ({how_to_run('train.py', f'--continue={run_dir}')}); a new run may take --batch-gpu={smaller}"
    )
