"""What one forward and backward pass of a process is given."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Round:
    """Images, labels and latents of a pass, float32; a batch too large for one pass is processed in several rounds.

    N is the number of images per pass, ``batch_gpu``.
    """

    real_img: torch.Tensor
    """Real images [N, C, H, W] in [-1, 1], flipped at random by the dataset, before augmentation."""
    real_c: torch.Tensor
    """Their labels [N, c_dim]."""
    gen_z: torch.Tensor
    """Latents [N, z_dim], from the standard normal distribution."""
    gen_c: torch.Tensor
    """Labels of the images to generate [N, c_dim], drawn from the dataset."""
