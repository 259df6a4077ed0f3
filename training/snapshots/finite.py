"""Networks with non-finite weights: refused, or repaired if only the mean of w is affected.

StyleGAN2-ADA can write such means: a forward pass over uninitialized memory in training mode leaves NaN in
``mapping.w_avg``, and a running mean never recovers from it. Images without truncation are not affected.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from dnnlib.errors import UserError

W_AVG = "mapping.w_avg"
NUM_SAMPLES = 10_000
MAX_BATCH = 100
MAX_MAPPING_ELEMENTS = 1 << 23
"""Largest mapping network that is sampled; StyleGAN2's has a quarter of it."""


def nonfinite_tensors(module: torch.nn.Module) -> list[str]:
    """Return the names, as in ``state_dict``, of parameters and buffers that hold NaN or infinity."""
    tensors = module.state_dict().items()
    return [name for name, tensor in tensors if tensor.is_floating_point() and not tensor.isfinite().all()]


def reset_w_avg(G: Any) -> None:
    """Set the mean of w to that of 10000 latents from ``RandomState(0)``, with uniformly drawn classes if it has any.

    Args:
        G: A generator in evaluation mode; its ``mapping.w_avg`` [w_dim] changes.
    """
    latents, classes = np.random.RandomState(0), np.random.RandomState(0)
    total = torch.zeros(G.w_dim, dtype=torch.float64)
    batch_size = max(1, min(MAX_BATCH, MAX_MAPPING_ELEMENTS // (G.z_dim + G.c_dim + G.num_ws * G.w_dim)))
    for start in range(0, NUM_SAMPLES, batch_size):
        num = min(batch_size, NUM_SAMPLES - start)
        z = torch.from_numpy(latents.randn(num, G.z_dim).astype(np.float32))
        c = torch.zeros(num, G.c_dim)
        if G.c_dim > 0:
            c[torch.arange(num), torch.from_numpy(classes.randint(G.c_dim, size=num))] = 1
        with torch.no_grad():
            total += G.mapping(z, c, skip_w_avg_update=True)[:, 0].sum(dim=0, dtype=torch.float64)
    G.mapping.w_avg.copy_(total / NUM_SAMPLES)


def ensure_finite(name: str, network: torch.nn.Module, trusted: bool = False) -> list[str]:
    """Repair the mean of w if it alone is not finite.

    Args:
        name: Name of the network in the snapshot, for messages.
        network: On the CPU, in evaluation mode.
        trusted: Accept other tensors that are not finite.

    Returns:
        A note about what was repaired or accepted, if there is anything to say.

    Raises:
        UserError: Another tensor is not finite.
    """
    bad = nonfinite_tensors(network)
    if bad == [W_AVG] and _is_small(network):
        reset_w_avg(network)
        bad = nonfinite_tensors(network)
        if not bad:
            return [f"{name}: {W_AVG} was not finite; it was reset to the mean w of {NUM_SAMPLES} random z"]
    if not bad:
        return []
    shown = f"{bad[0][:100]!a}" + (f" and {len(bad) - 1} more tensors are" if len(bad) > 1 else " is")
    text = f"{name}: {shown} not finite; the training diverged, or the file is damaged"
    if not trusted:
        raise UserError(f"{text}: choose an earlier snapshot")
    return [text]


def _is_small(G: Any) -> bool:
    num_elements = sum(parameter.numel() for parameter in G.mapping.parameters())
    return num_elements + G.z_dim + G.c_dim + G.num_ws * G.w_dim <= MAX_MAPPING_ELEMENTS
