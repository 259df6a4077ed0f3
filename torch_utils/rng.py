"""The random generators of a process."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch (on all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class GlobalGenerators:
    """The global generators of this process, with a ``state_dict`` of tensors and numbers.

    Args:
        device: The generator of a CUDA device is included.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every generator."""
        _kind, keys, position, has_gauss, cached_gaussian = np.random.get_state()
        python_version, python_keys, python_gauss = random.getstate()
        state = {
            "torch": torch.get_rng_state(),
            "numpy": {
                "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
                "position": position,
                "has_gauss": has_gauss,
                "cached_gaussian": cached_gaussian,
            },
            "python": {"version": python_version, "keys": torch.tensor(python_keys), "gauss": python_gauss},
        }
        if self._device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self._device)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; a CUDA state is ignored on other devices."""
        numpy_state, python_state = state["numpy"], state["python"]
        torch.set_rng_state(state["torch"])
        keys = numpy_state["keys"].numpy().astype(np.uint32)
        np.random.set_state(
            ("MT19937", keys, numpy_state["position"], numpy_state["has_gauss"], numpy_state["cached_gaussian"])
        )
        random.setstate((python_state["version"], tuple(python_state["keys"].tolist()), python_state["gauss"]))
        if self._device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self._device)
