"""A trained generator for other people's programs."""

from __future__ import annotations

import math
import operator
import os
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .card import model_card

Labels = int | Sequence[int] | np.ndarray


def ours(name: str) -> Any:
    """Import a module of this project by the name that its sources use."""
    return import_module(f"{__package__}.modules.{name}")


class Generator:
    """A trained generator.

    Args:
        network: The network, in evaluation mode, without gradients of its weights.
        device: Device of the network.
    """

    def __init__(self, network: Any, device: torch.device) -> None:
        self.network = network
        """The module: ``network(z, c, truncation_psi=0.7)`` returns float32 images ``[N, C, H, W]`` of [-1, 1]."""
        self.device = device

    @property
    def mapping(self) -> torch.nn.Module:
        """Maps z ``[N, z_dim]`` and c ``[N, c_dim]``, or None, to ws ``[N, num_ws, w_dim]``; all float32."""
        module: torch.nn.Module = self.network.mapping
        return module

    @property
    def synthesis(self) -> torch.nn.Module:
        """Maps ws ``[N, num_ws, w_dim]`` to images ``[N, C, H, W]`` of about [-1, 1]; all float32."""
        module: torch.nn.Module = self.network.synthesis
        return module

    def sample(
        self,
        seeds: Sequence[int],
        truncation: float = 1,
        labels: Labels | None = None,
        noise_mode: str = "const",
        batch_size: int = 1,
    ) -> np.ndarray:
        """Generate an image for each seed: the pixels that ``mscond generate`` writes.

        Args:
            seeds: N numbers from 0 to 2^32 - 1.
            truncation: psi; lower values trade variety for fidelity.
            labels: Labels for a conditional network: a class, N classes, or float labels ``[N, c_dim]``.
            noise_mode: ``'const'``, ``'random'`` (by seed) or ``'none'``.
            batch_size: Images at a time. Larger batches are faster on a GPU and may change the last bit.

        Returns:
            uint8 ``[N, H, W, C]``.

        Raises:
            ValueError: A seed, the truncation or the labels do not suit the network.
        """
        sampling = ours("training.inference.sampling")
        if batch_size < 1:
            raise ValueError(f"batch_size: got {batch_size}, expected 1 or more")
        numbers = self._checked_seeds(seeds)
        if not math.isfinite(truncation):
            raise ValueError(f"truncation: got {truncation}, expected a finite number")
        sampling.check_truncation(self.network, truncation)
        c = self._labels(labels, len(numbers))
        images = [np.zeros([0, self.resolution, self.resolution, self.network.img_channels], np.uint8)]
        for start in range(0, len(numbers), batch_size):
            part = numbers[start : start + batch_size]
            ws = self._map(part, c[start : start + batch_size], truncation)
            images.append(sampling.synthesize(self.network, ws, noise_mode, noise_seeds=part))
        return np.concatenate(images)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``model.safetensors`` and ``config.json``, and a model card, ``README.md``.

        Weights and settings of another generator in the folder are replaced; a ``README.md`` is kept, whatever it says.

        Args:
            folder: Made if it does not exist.

        Raises:
            ValueError: The folder holds another kind of model, or the network is of a class that cannot be described.
            OSError: A file cannot be written.
        """
        ours("training.snapshots.portable").save_portable(Path(folder), self.network)
        card = Path(folder, "README.md")
        if not card.exists():
            ours("dnnlib.atomic").write_atomic(card, model_card(self.network).encode())

    def push_to_hub(
        self,
        repo: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        license: str | None = None,
        description: str = "",
    ) -> str:
        """Upload the generator and a model card to the Hugging Face hub (``pip install huggingface_hub``).

        Args:
            repo: ``OWNER/NAME``; made if it is not there.
            private: Whether a new repository is private. Default: the owner's setting.
            token: Access token. Default: that of ``hf auth login`` or HF_TOKEN.
            license: License of the weights, for the card: ``'cc0-1.0'``, ``'apache-2.0'`` ...
            description: Text for the card: the images, the run, scores, intended use.

        Returns:
            The URL of the commit.

        Raises:
            ValueError: The hub refuses, or cannot be reached.
        """
        from .hub import upload

        with tempfile.TemporaryDirectory() as folder:
            card = model_card(self.network, repo, license, description)
            Path(folder, "README.md").write_text(card, encoding="utf-8")
            self.save(folder)
            return upload(Path(folder), repo, private, token)

    @property
    def resolution(self) -> int:
        """Height and width of the images in pixels."""
        return int(self.network.img_resolution)

    def _checked_seeds(self, seeds: Sequence[int]) -> list[int]:
        try:
            numbers = [operator.index(seed) for seed in seeds]
        except TypeError as error:  # int() would cut off decimals
            raise ValueError(f"seeds: give a list of whole numbers, not {str(seeds)[:100]!a}") from error
        if wrong := [number for number in numbers if not 0 <= number < 2**32]:
            raise ValueError(f"seeds: {wrong[0]} is not from 0 to {2**32 - 1}")
        return numbers

    def _map(self, seeds: Sequence[int], c: torch.Tensor, truncation: float) -> torch.Tensor:
        z = np.stack([np.random.RandomState(seed).randn(self.network.z_dim) for seed in seeds])
        ws: torch.Tensor = ours("training.inference.sampling").map_z(self.network, z, c, truncation)
        return ws

    def _labels(self, labels: Labels | None, num: int) -> torch.Tensor:
        """Return labels ``[num, c_dim]`` on the device."""
        c_dim = self.network.c_dim
        if labels is None:
            if c_dim > 0:
                raise ValueError(f"labels: this network needs a class from 0 to {c_dim - 1}")
            return torch.zeros([num, 0], device=self.device)
        values = np.asarray(labels)
        if values.shape == (0,):
            values = np.zeros([0, c_dim])
        if values.dtype.kind in "iu" and values.ndim < 2:
            if values.size and not 0 <= values.min() <= values.max() < c_dim:
                known = f"classes 0 to {c_dim - 1}" if c_dim else "no classes"
                raise ValueError(f"labels: got {values.min()} to {values.max()}, this network has {known}")
            values = np.eye(c_dim)[np.broadcast_to(values, [num]) if values.ndim == 0 else values]
        if values.shape != (num, c_dim):
            raise ValueError(f"labels: got shape {list(values.shape)}, expected {num} classes or [{num}, {c_dim}]")
        c = torch.from_numpy(values.astype(np.float64)).to(torch.float32)
        if not c.isfinite().all():
            raise ValueError("labels: they contain values that are not finite")
        return c.to(self.device)


def load_generator(network: str, device: str, trusted: bool) -> Generator:
    """Load a generator; see `mscond.load`."""
    try:
        where = ours("torch_utils.device").choose_device(device)
    except RuntimeError as error:
        raise ValueError(f"device={device!r}: give 'auto', 'cpu', 'cuda' or 'mps'") from error
    try:
        return Generator(ours("training.inference.loading").load_generator(network, where, trusted), where)
    except OSError as error:  # a file that may not be read, a name that no file can have
        raise ValueError(str(error)) from error
