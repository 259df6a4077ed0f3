"""The device that ``--device`` asks for."""

from __future__ import annotations

import torch

from dnnlib.commands import how_to_run
from dnnlib.errors import UserError


def choose_device(name: str, num_gpus: int = 1, local_rank: int = 0) -> torch.device:
    """Find the device of a process.

    Args:
        name: ``cuda``, ``cpu``, ``mps``, or ``auto`` for CUDA where there is any, else the CPU.
        num_gpus: Number of processes, for the error.
        local_rank: Which of the processes of this machine this is; each has a CUDA device of its own.

    Raises:
        UserError: The machine has no such device, or too few of them.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        if not torch.cuda.is_available():
            how = how_to_run("-m torch_utils.doctor")
            raise UserError(f"--device=cuda: torch finds no CUDA device; see {how}, or use --device=cpu")
        num_found = torch.cuda.device_count()
        if local_rank >= num_found:
            raise UserError(f"--gpus={num_gpus}: CUDA devices on this machine: {num_found}; use --gpus={num_found}")
        return torch.device("cuda", local_rank)
    if name == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device=mps: torch finds no Apple GPU; use --device=cpu")
    if name == "mps" and num_gpus > 1:
        raise UserError(f"--gpus={num_gpus}: processes on an Apple GPU cannot exchange tensors; use --gpus=1")
    return torch.device(name)
