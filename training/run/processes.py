"""The limit on the number of processes that one machine starts."""

from __future__ import annotations

import os

from dnnlib.errors import UserError
from torch_utils.device import choose_device

MIN_MAX_PROCESSES = 8
"""Processes that may always be started on a CPU, even with fewer cores."""


def check_num_processes(device: str, num_processes: int) -> None:
    """Check that this machine can run a number of processes; a thousand of them would bring it down.

    Args:
        device: What ``--device`` says.
        num_processes: What ``--gpus`` says.

    Raises:
        UserError: There are fewer GPUs, or many more processes than CPU cores.
    """
    if choose_device(device, num_processes, local_rank=num_processes - 1).type == "cuda":
        return
    num_cores = os.cpu_count() or 1
    most = max(num_cores, MIN_MAX_PROCESSES)
    if num_processes > most:
        raise UserError(f"--gpus={num_processes}: CPU cores on this machine: {num_cores}; use --gpus={most} at most")
