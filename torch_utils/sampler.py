"""The endless order in which training images are drawn (CONTRACT 5), and how to continue it exactly."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
import torch


class _Order:
    """The shared order of all processes: position 0, 1, 2, ... -> index of an image.

    A shuffled list is walked round and round; behind the walker each element is swapped with one a little earlier in
    the walk, so every pass has a new order while no image comes back at once.
    """

    def __init__(self, num_items: int, shuffle: bool, seed: int, window_size: float) -> None:
        self.position = 0
        self.items = np.arange(num_items)
        self.rng = np.random.RandomState(seed)
        self.window = int(np.rint(num_items * window_size)) if shuffle else 0
        if shuffle:
            self.rng.shuffle(self.items)

    def __next__(self) -> int:
        here = self.position % len(self.items)
        item = int(self.items[here])
        if self.window >= 2:
            there = (here - self.rng.randint(self.window)) % len(self.items)
            self.items[here], self.items[there] = self.items[there], self.items[here]
        self.position += 1
        return item


class InfiniteSampler(torch.utils.data.Sampler[int]):
    """Draw indices for ever; each process gets every ``num_replicas``-th one of a common order.

    An iterator starts at the sampler's own position and leaves the sampler alone: a DataLoader may read ahead as
    far as it likes. Whoever consumes the images calls `advance`, and `state_dict` then describes what comes next.

    Args:
        dataset: Only its length matters.
        rank: This process.
        num_replicas: Number of processes.
        shuffle: False draws 0, 1, 2, ... in turn.
        seed: Of the order; the same in all processes.
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
            mine = order.position % self._num_replicas == self._rank
            item = next(order)
            if mine:
                yield item

    def advance(self, num_images: int) -> None:
        """Count ``num_images``, consumed by all processes together, as done."""
        for _ in range(num_images):
            next(self._order)

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
        """Go on where `state_dict` was taken; the number of processes may have changed.

        Raises:
            ValueError: The state is of a dataset of another size.
        """
        items = state["items"].numpy()
        if len(items) != len(self._order.items):
            raise ValueError(
                f"InfiniteSampler: the state is of a dataset of {len(items)} images, this one has "
                f"{len(self._order.items)}; continue with the dataset the run began with"
            )
        self._order.position = int(state["position"])
        self._order.items = items.copy()
        rng_state = self._order.rng.get_state(legacy=False)
        rng_state["state"] = {"key": state["rng_key"].numpy().astype(np.uint32), "pos": int(state["rng_pos"])}
        self._order.rng.set_state(rng_state)
