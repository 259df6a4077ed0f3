"""The endless order in which training images are drawn, and how to continue it exactly."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
import torch

from dnnlib.formatting import plural

_BLOCK_SIZE = 256
"""Positions that an iterator draws at once: ten times faster than one by one (docs/benchmarks.md)."""


class _Order:
    """The order common to all processes: position 0, 1, 2, ... -> index of an image.

    A shuffled list is read over and over. After each position its element is swapped with one at most a window
    before it, so every pass has another order, yet no image returns at once.
    """

    def __init__(self, num_items: int, shuffle: bool, seed: int, window_size: float) -> None:
        self.position = 0
        self.items = np.arange(num_items)
        self.rng = np.random.RandomState(seed)
        self.window = int(np.rint(num_items * window_size)) if shuffle else 0
        if shuffle:
            self.rng.shuffle(self.items)

    def take(self, num: int) -> list[int]:
        """Return the indices at the next ``num`` positions."""
        items, num_items = self.items.data, len(self.items)  # a memoryview: its elements are plain integers
        distances = self.rng.randint(self.window, size=num).tolist() if self.window >= 2 else [0] * num
        taken = []
        for position, distance in enumerate(distances, self.position):
            here = position % num_items
            there = (here - distance) % num_items
            taken.append(items[here])
            items[here], items[there] = items[there], items[here]
        self.position += num
        return taken


class InfiniteSampler(torch.utils.data.Sampler[int]):
    """Draw indices forever; each process gets every ``num_replicas``-th one of a common order.

    The order is that of StyleGAN2-ADA (docs/compatibility.md). An iterator starts at the sampler's own position and
    does not move it: a DataLoader may read ahead as far as it likes. The consumer of the images calls `advance`, and
    `state_dict` then describes what comes next.

    Args:
        dataset: Only its length matters.
        rank: Index of this process.
        num_replicas: Number of processes.
        shuffle: False draws 0, 1, 2, ... in turn.
        seed: Random seed of the order; the same in all processes.
        window_size: How far an image may move between two passes, as a fraction of the dataset.

    Raises:
        ValueError: An empty dataset or an argument out of range.
    """

    def __init__(
        self,
        dataset: Sized,
        rank: int = 0,
        num_replicas: int = 1,
        shuffle: bool = True,
        seed: int = 0,
        window_size: float = 0.5,
    ) -> None:
        if len(dataset) == 0:
            raise ValueError("InfiniteSampler: the dataset is empty")
        if not 0 <= rank < num_replicas:
            raise ValueError(f"InfiniteSampler: rank is {rank}, expected 0 to num_replicas - 1 = {num_replicas - 1}")
        if not 0 <= window_size <= 1:
            raise ValueError(f"InfiniteSampler: window_size is {window_size}, expected 0 to 1")
        self._rank = rank
        self._num_replicas = num_replicas
        self._order = _Order(len(dataset), shuffle, seed, window_size)

    def __iter__(self) -> Iterator[int]:
        order = copy.deepcopy(self._order)
        while True:
            first = (self._rank - order.position) % self._num_replicas
            yield from order.take(_BLOCK_SIZE)[first :: self._num_replicas]

    def advance(self, num_images: int) -> None:
        """Count ``num_images``, consumed by all processes together, as done."""
        self._order.take(num_images)

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the order as tensors and integers; the same in all processes."""
        rng_state: dict[str, Any] = self._order.rng.get_state(legacy=False)["state"]
        return {
            "position": self._order.position,
            "items": torch.from_numpy(self._order.items.copy()),
            "rng_key": torch.from_numpy(rng_state["key"].astype(np.int64)),
            "rng_pos": int(rng_state["pos"]),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken; the number of processes may have changed.

        Raises:
            ValueError: The state belongs to a dataset of another size.
        """
        items = state["items"].numpy()
        if len(items) != len(self._order.items):
            raise ValueError(
                f"InfiniteSampler: the state is of a dataset of {plural(len(items), 'image')}, this one has "
                f"{len(self._order.items)}; continue with the dataset the run began with"
            )
        self._order.position = int(state["position"])
        self._order.items = items.copy()
        rng_state = self._order.rng.get_state(legacy=False)
        rng_state["state"] = {"key": state["rng_key"].numpy().astype(np.uint32), "pos": int(state["rng_pos"])}
        self._order.rng.set_state(rng_state)
