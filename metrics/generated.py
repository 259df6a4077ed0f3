"""Generated images that depend on a seed and their index, but neither on the batch nor on the number of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from dnnlib.errors import UserError


def shard(num_items: int, batch_size: int, num_gpus: int = 1, rank: int = 0) -> Iterator[list[int]]:
    """Yield the item indices of one process in batches: rank, rank + num_gpus, ...

    If the items do not divide evenly, the last indices wrap around, so that all processes take equally many steps.
    """
    num_steps = -(-num_items // num_gpus)
    indices = [(step * num_gpus + rank) % num_items for step in range(num_steps)]
    for start in range(0, num_steps, batch_size):
        yield indices[start : start + batch_size]


def item_rng(seed: int, index: int) -> np.random.RandomState:
    """Return the generator of all random numbers of item ``index``."""
    return np.random.RandomState([seed, index])


class ItemNoise(TorchFunctionMode):
    """While active, ``torch.randn([N, ...])`` draws each of its N rows from a generator of its own.

    Synthesis networks draw the noise maps of a whole batch with one such call. The global generator stays as it is.

    Args:
        seeds: One seed per row; tensors with another first dimension are drawn as usual.
        device: Device of the tensors.
    """

    def __init__(self, seeds: list[int], device: torch.device) -> None:
        super().__init__()
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace ``torch.randn``; see `TorchFunctionMode`."""
        kwargs = kwargs or {}
        if func is torch.randn and args:
            shape = args if isinstance(args[0], int) else tuple(args[0])
            if shape and shape[0] == len(self._generators):
                rows = [torch.randn(shape[1:], generator=generator, **kwargs) for generator in self._generators]
                return torch.stack(rows)
        return func(*args, **kwargs)


def draw_labels(rngs: list[np.random.RandomState], c_dim: int, dataset: Any, device: torch.device) -> torch.Tensor:
    """Draw one label per item from those of the dataset: float32 [N, c_dim].

    Raises:
        UserError: The network needs labels, and the dataset has none of that length.
    """
    if c_dim == 0:
        return torch.zeros([len(rngs), 0], device=device)
    check_labels(c_dim, dataset)
    labels = np.stack([dataset.get_label(rng.randint(len(dataset))) for rng in rngs])
    return torch.from_numpy(labels).to(device, torch.float32)


def check_labels(c_dim: int, dataset: Any) -> None:
    """Make sure that the labels of a conditional network can be drawn from those of a dataset.

    Raises:
        UserError: The network needs labels, and the dataset has none of that length.
    """
    if c_dim > 0 and (dataset is None or dataset.label_dim != c_dim):
        found = "no dataset" if dataset is None else f"{dataset.label_dim} per image in dataset '{dataset.name}'"
        raise UserError(
            f"the generator is conditional on {c_dim} label values, found {found}: give images with such labels"
        )


def check_finite(img: torch.Tensor) -> None:
    """Refuse generated images with NaN or infinity, which would become arbitrary pixels.

    Raises:
        UserError: A value is not finite.
    """
    if not torch.isfinite(img).all():
        raise UserError(
            "the generated images contain values that are not finite: training diverged or the network file is "
            "damaged; use an earlier snapshot"
        )


def to_uint8(img: torch.Tensor) -> torch.Tensor:
    """Quantize images from [-1, 1]: x * 127.5 + 128, clamped to 0..255 and truncated (docs/compatibility.md).

    Raises:
        UserError: A value is not finite.
    """
    check_finite(img)
    return (img * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def to_rgb(img: torch.Tensor) -> torch.Tensor:
    """Repeat grayscale images [N, 1, H, W] to three channels; return RGB images as they are.

    Raises:
        UserError: The images have another number of channels.
    """
    if img.shape[1] not in (1, 3):
        raise UserError(f"metrics take images with 1 or 3 channels, got {img.shape[1]}")
    return img if img.shape[1] == 3 else img.repeat(1, 3, 1, 1)


def generate_batch(
    G: Any, indices: list[int], seed: int, dataset: Any, device: torch.device, **G_kwargs: Any
) -> torch.Tensor:
    """Generate the images with the given indices.

    Args:
        G: The generator, on ``device``.
        indices: Indices of N items.
        seed: Seed of the whole set of items.
        dataset: Source of the labels; may be None for an unconditional generator.
        device: Device that computes.
        **G_kwargs: Passed to ``G.forward``.

    Returns:
        RGB images [N, 3, H, W], uint8.

    Raises:
        UserError: The images are not finite, or the labels do not fit.
    """
    rngs = [item_rng(seed, index) for index in indices]
    z = torch.from_numpy(np.stack([rng.randn(G.z_dim) for rng in rngs])).to(device, torch.float32)
    c = draw_labels(rngs, G.c_dim, dataset, device)
    with ItemNoise([rng.randint(2**31 - 1) for rng in rngs], device):
        return to_rgb(to_uint8(G(z=z, c=c, **G_kwargs)))
