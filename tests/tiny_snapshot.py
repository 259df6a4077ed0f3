"""Snapshots that take milliseconds to write, to load and to draw from."""

import copy
from pathlib import Path

import numpy as np
import torch

from dnnlib.util import EasyDict
from torch_utils.persistence import _reconstruct_persistent_obj
from training.augment import AugmentPipe
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
    """The first image of a batch as PNG files show it: uint8 [H, W, 3], or [H, W] in grey (docs/compatibility.md)."""
    image: np.ndarray = (img * 127.5 + 128).clamp(0, 255).to(torch.uint8)[0].permute(1, 2, 0).numpy()
    return image[:, :, 0] if image.shape[2] == 1 else image


def snapshot() -> dict:
    """All parts of a snapshot: a conditional generator, a discriminator with frozen layers, augmentation at work."""
    G = Generator(8, 3, 8, 16, 3, mapping_kwargs={"num_layers": 2}, synthesis_kwargs=SMALL)
    for module in G.modules():
        if hasattr(module, "noise_strength"):
            torch.nn.init.normal_(module.noise_strength)
    G_ema = copy.deepcopy(G)
    torch.nn.init.normal_(G_ema.mapping.fc0.weight)
    D = Discriminator(c_dim=3, img_resolution=16, img_channels=3, **SMALL, block_kwargs={"freeze_layers": 2})
    augment_pipe = AugmentPipe(xflip=1, scale=0.5)
    augment_pipe.p.fill_(0.25)
    training_set_kwargs = EasyDict(DATASET, xflip=True, max_size=70_000)
    return {"training_set_kwargs": training_set_kwargs, "G": G, "D": D, "G_ema": G_ema, "augment_pipe": augment_pipe}


def images(G: torch.nn.Module) -> torch.Tensor:
    """Images that depend on every weight of a generator."""
    z = torch.from_numpy(np.random.RandomState(0).randn(3, G.z_dim)).float()
    return G(z, torch.eye(3, G.c_dim), truncation_psi=0.7, noise_mode="const")


def logits(D: torch.nn.Module) -> torch.Tensor:
    """Logits of a discriminator for fixed noise."""
    img = torch.from_numpy(np.random.RandomState(1).randn(3, 3, D.img_resolution, D.img_resolution)).float()
    return D(img, torch.eye(3, D.c_dim))


class Described:
    """Pickles a persistent module with another source text, state or class name."""

    def __init__(self, module: torch.nn.Module, source: str = "", class_name: str = "", **state) -> None:
        self.module, self.source, self.class_name, self.state = module, source, class_name, state

    def __reduce__(self):
        children = {name: Described(child, self.source) for name, child in self.module.named_children()}
        meta = {
            "type": "class",
            "version": 6,
            "module_src": self.source,
            "class_name": self.class_name or type(self.module).__name__,
            "state": {**vars(self.module), "_modules": children, **self.state},
        }
        return _reconstruct_persistent_obj, (meta,)


def described(snapshot: dict, source: str) -> dict:
    """The same snapshot with another source text in place of ours, as other projects write it."""
    return {key: Described(value, source) if key != "training_set_kwargs" else value for key, value in snapshot.items()}
