"""The presets of ``train.py --cfg``: a table, and the one preset that is a function of the dataset."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Hyperparameters of one configuration; the defaults are those of StyleGAN2 (arXiv 1912.04958)."""

    ref_gpus: int
    """Number of GPUs for which ``batch`` was tuned; without ``--batch``, a pass has batch / ref_gpus images."""
    kimg: int = 25000
    """Length of training, in thousands of real images."""
    batch: int
    """Images per optimizer step, over all processes."""
    mbstd: int
    """Group size of the minibatch standard deviation."""
    fmaps: float
    """Channels relative to StyleGAN2's full width (channel_base 32768)."""
    lr: float
    gamma: float | None
    """Weight of R1; None if the loss has no such term."""
    ema_kimg: float
    """Half-life of the generator's moving average, in thousands of images."""
    ramp: float | None = None
    """The half-life is at most this fraction of the images seen so far; None for no limit."""
    map_depth: int = 8
    """Layers of the mapping network."""
    max_batch_gpu: int | None = None
    """If given, a pass has up to this many images, regardless of ``ref_gpus``."""
    z_dim: int = 512
    w_dim: int | None = None
    """Width of w; None for ``z_dim``."""
    pl_weight: float = 2
    style_mixing_prob: float = 0.9
    d_architecture: str = "resnet"
    cmax: int = 512
    """Maximum number of channels of a layer."""
    noise: bool = True
    """Whether the layers of G add noise."""


# fmt: off
PRESETS: dict[str, Preset] = {
    "stylegan2": Preset(ref_gpus=8, batch=32, mbstd=4, fmaps=1.0, lr=0.0020, gamma=10.0, ema_kimg=10),
    "paper256":  Preset(ref_gpus=8, batch=64, mbstd=8, fmaps=0.5, lr=0.0025, gamma=1.0,  ema_kimg=20),
    "paper512":  Preset(ref_gpus=8, batch=64, mbstd=8, fmaps=1.0, lr=0.0025, gamma=0.5,  ema_kimg=20),
    "paper1024": Preset(ref_gpus=8, batch=32, mbstd=4, fmaps=1.0, lr=0.0020, gamma=2.0,  ema_kimg=10),
    "cifar":     Preset(ref_gpus=2, batch=64, mbstd=32, fmaps=1.0, lr=0.0025, gamma=0.01, ema_kimg=500, kimg=100000,
                        ramp=0.05, map_depth=2, pl_weight=0, style_mixing_prob=0, d_architecture="orig"),
}
# fmt: on
"""Published configurations: that of StyleGAN2 (arXiv 1912.04958) and those of the ADA paper (arXiv 2006.06676)."""


def auto_preset(resolution: int, num_gpus: int) -> Preset:
    """Return a reasonable preset for any resolution and number of GPUs, that of StyleGAN2-ADA's ``--cfg=auto``."""
    # The pixels per GPU stay about constant, and the batch is at most 64.
    batch = max(min(num_gpus * min(4096 // resolution, 32), 64), num_gpus)
    return Preset(
        ref_gpus=num_gpus,
        batch=batch,
        mbstd=min(batch // num_gpus, 4),  # StyleGAN2's group size, or the whole pass if that is smaller
        fmaps=1 if resolution >= 512 else 0.5,
        lr=0.002 if resolution >= 1024 else 0.0025,
        gamma=0.0002 * resolution**2 / batch,
        ema_kimg=batch * 10 / 32,
        ramp=0.05,
        map_depth=2,
    )


SMALL: dict[str, Any] = {
    "ref_gpus": 1,
    "max_batch_gpu": None,
    "kimg": 200,
    "batch": 16,
    "mbstd": 4,
    "fmaps": 1 / 64,
    "lr": 0.006,
    "gamma": 0.05,
    "ema_kimg": 0.5,
    "ramp": 0.05,
    "map_depth": 2,
    "z_dim": 128,
    "w_dim": None,
    "pl_weight": 0,
    "noise": False,
}
"""What ``--small`` changes (docs/training.md says where the values come from)."""


def small(preset: Preset) -> Preset:
    """Return a preset that two CPU cores can train in half an hour at 32 px, and that keeps what makes the method."""
    changes = {**SMALL, "gamma": None if preset.gamma is None else SMALL["gamma"]}
    return dataclasses.replace(preset, **changes)
