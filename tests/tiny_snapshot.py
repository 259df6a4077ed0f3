"""A snapshot that takes milliseconds to write, to load and to draw from."""

import copy
from pathlib import Path

import numpy as np
import torch

from training.networks import Discriminator, Generator
from training.snapshots.save import save_snapshot

RESOLUTION_PX = 16
DATASET = {"class_name": "training.dataset.ImageFolderDataset", "path": "images.zip"}
SMALL = {"channel_base": 64, "channel_max": 8}


def generator(
    c_dim: int = 0, img_channels: int = 3, img_resolution: int = RESOLUTION_PX, noise_strength: float = 0.3
) -> Generator:
    """A generator whose images depend on z, class, noise and truncation."""
    torch.manual_seed(1)
    G = Generator(
        8, c_dim, w_dim=8, img_resolution=img_resolution, img_channels=img_channels,
        mapping_kwargs={"num_layers": 2}, synthesis_kwargs=SMALL,
    )  # fmt: skip
    for name, tensor in G.state_dict().items():
        if name.endswith("noise_strength"):
            tensor.fill_(noise_strength)
    G.mapping.w_avg.normal_()
    return G.eval().requires_grad_(False)


def write(path: Path, c_dim: int = 0, img_channels: int = 3, img_resolution: int = RESOLUTION_PX) -> Generator:
    """Write a snapshot whose G_ema is the one returned; its G draws other images."""
    G_ema = generator(c_dim, img_channels, img_resolution)
    G = copy.deepcopy(G_ema)
    G.mapping.fc0.weight.zero_()
    D = Discriminator(c_dim, img_resolution, img_channels, **SMALL)
    save_snapshot(path, {"G": G, "D": D, "G_ema": G_ema, "augment_pipe": None}, DATASET)
    return G_ema


def pixels(img: torch.Tensor) -> np.ndarray:
    """The first image of a batch as a file should show it (CONTRACT 9): uint8 [H, W, 3], or [H, W] in grey."""
    image: np.ndarray = (img * 127.5 + 128).clamp(0, 255).to(torch.uint8)[0].permute(1, 2, 0).numpy()
    return image[:, :, 0] if image.shape[2] == 1 else image
