"""Inputs of the training loop: real images in the sampler's order, and latents with labels to generate from."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from types import FrameType
from typing import Any

import numpy as np
import psutil
import torch

from dnnlib.errors import UserError, describe
from dnnlib.signals import available
from torch_utils import distributed
from torch_utils.misc import InfiniteSampler
from training.dataset import Dataset
from training.round import Round
from training.stop_request import STOP_SIGNALS

_DIED = "a process that loads images has died, perhaps for lack of (shared) memory"
_TOO_MANY_FILES = "the processes that load images may not open as many files as they need (see ulimit -n)"
WORKER_FAILURES = {
    "DataLoader worker (pid": _DIED,
    "shared memory": _DIED,
    "Too many open files": _TOO_MANY_FILES,
    "ancdata": _TOO_MANY_FILES,  # a descriptor that was sent to this process could not be opened
    "Resource temporarily unavailable": "no more processes can be started (see ulimit -u)",
    "start new thread": "no more threads can be started (see ulimit -u)",
}
"""What PyTorch's errors about worker processes contain, and what has happened."""


class Batches:
    """Endless batches for one process; all processes share one order of images, which can be continued exactly.

    Args:
        training_set: The images.
        batch_size: Images per batch, over all processes.
        batch_gpu: Images per round of one process; divides the process's part of the batch.
        z_dim: Width of the latents.
        rank: This process.
        world_size: Number of processes.
        seed: Seed of the order of images.
        device: Where the inputs are put.
        data_loader_kwargs: Further arguments of ``torch.utils.data.DataLoader``.
    """

    def __init__(
        self,
        training_set: Dataset,
        batch_size: int,
        batch_gpu: int,
        z_dim: int,
        rank: int,
        world_size: int,
        seed: int,
        device: torch.device,
        data_loader_kwargs: dict[str, Any],
    ) -> None:
        self._training_set = training_set
        self._batch_size = batch_size
        self._batch_gpu = batch_gpu
        self._share = batch_size // world_size
        self._z_dim = z_dim
        self._device = device
        self._sampler = InfiniteSampler(training_set, rank=rank, num_replicas=world_size, seed=seed)
        self._is_closed = torch.multiprocessing.Event()
        loader_kwargs = {
            **data_loader_kwargs,
            # More workers than cores would only slow each other down.
            "num_workers": min(data_loader_kwargs.get("num_workers", 0), psutil.cpu_count() or 1),
            "pin_memory": data_loader_kwargs.get("pin_memory", False) and device.type == "cuda",
        }
        self._loader = torch.utils.data.DataLoader(
            training_set,
            sampler=self._sampler,
            batch_size=self._share,
            # A generator of its own, so that the workers' seeds do not advance the global one.
            generator=torch.Generator().manual_seed(seed),
            worker_init_fn=functools.partial(_leave_stopping_to_the_main_process, self._is_closed),
            **loader_kwargs,
        )
        self._iterator: Iterator[Any] | None = None
        self.wait_sec = 0.0
        """Time spent waiting for images so far."""
        self.has_failed = False
        """Whether a process could not load its images; the same in all of them."""

    def next(self, num_phases: int) -> list[list[Round]]:
        """Return the inputs of one iteration: for each phase the same real images, and its own latents, in rounds."""
        img, c = self._next_images()
        real_img = img.to(self._device, non_blocking=True).to(torch.float32) / 127.5 - 1
        real_c = c.to(self._device, non_blocking=True)
        gen_z = torch.randn([num_phases * self._share, self._z_dim], device=self._device)
        gen_c = self._random_labels(num_phases * self._share)
        latents = zip(gen_z.split(self._share), gen_c.split(self._share), strict=True)
        return [self._rounds(real_img, real_c, z, c) for z, c in latents]

    def _rounds(self, *inputs: torch.Tensor) -> list[Round]:
        """Divide the inputs of a phase, in the order of `Round`, into its rounds."""
        return [Round(*parts) for parts in zip(*(each.split(self._batch_gpu) for each in inputs), strict=True)]

    def _next_images(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Wait for the next images of this process, uint8 ``[N, C, H, W]``, and their labels.

        If one process cannot load its own, none goes on: all raise an error, and are still where the batch began.
        """
        begin = time.perf_counter()
        images, problem = None, None
        try:
            images = self._load_images()
        except Exception as error:
            problem = error
        self.has_failed = distributed.any_process(problem is not None)
        if self.has_failed:
            problems = distributed.gather(None if problem is None else describe(problem))
            raise problem or UserError(next(filter(None, problems)))
        assert images is not None
        self._sampler.advance(self._batch_size)
        self.wait_sec += time.perf_counter() - begin
        return images

    def _load_images(self) -> tuple[torch.Tensor, torch.Tensor]:
        try:
            if self._iterator is None:  # not earlier: a checkpoint may have moved the sampler
                self._iterator = iter(self._loader)
            img, c = next(self._iterator)
        except (OSError, RuntimeError) as error:
            cause = next((cause for sign, cause in WORKER_FAILURES.items() if sign in str(error)), None)
            if cause is None or not self._loader.num_workers:
                raise
            raise UserError(f"{cause}: use --workers=0 ({_described(error)})") from error
        except UserError as error:
            # From a worker process it arrives as a traceback whose last line is the message.
            raise UserError(str(error).splitlines()[-1].removeprefix(f"{UserError.__module__}.UserError: ")) from error
        return img, c

    def _random_labels(self, num: int) -> torch.Tensor:
        indices = np.random.randint(len(self._training_set), size=num)
        labels = torch.from_numpy(np.stack([self._training_set.get_label(int(i)) for i in indices]))
        if self._device.type == "cuda":
            labels = labels.pin_memory()  # or the host would wait for the device
        return labels.to(self._device, non_blocking=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the order of images, which is the same in all processes."""
        return self._sampler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, before the first batch is drawn."""
        assert self._iterator is None
        self._sampler.load_state_dict(state)

    def close(self) -> None:
        """End the workers, or allow them to end: after an error the traceback may keep the iterator alive."""
        self._is_closed.set()
        self._iterator = None


def _described(error: Exception) -> str:
    """Return one line of an error; one from a worker process is a traceback that ends with what has happened."""
    lines = str(error).splitlines()
    return lines[-1] if lines[0].startswith("Caught ") else lines[0]


def _leave_stopping_to_the_main_process(is_closed: Event, _worker_id: int) -> None:
    """Ignore signals: Ctrl-C and job managers send them to all processes, but the loop needs its workers."""

    def obey(_signum: int, _frame: FrameType | None) -> None:
        if is_closed.is_set():
            os._exit(0)

    for signum in available(*STOP_SIGNALS):
        signal.signal(signum, obey)
