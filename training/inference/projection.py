"""Projection: find the w whose image resembles a given one most (arXiv:1912.04958, appendix D), for one or many images.

w starts at the mean of W and is optimized together with the noise maps. The distance of two images is that of their
perceptual features. Decaying noise on w widens the search; a penalty keeps the noise maps from encoding the image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from metrics.generated import to_rgb
from training.inference.sampling import sample_w

NUM_W_SAMPLES = 10_000
W_SAMPLES_SEED = 123
LEARNING_RATE = 0.1
RAMP_UP = 0.05
"""Fraction of the steps in which the learning rate rises linearly from 0."""
RAMP_DOWN = 0.25
"""Fraction of the steps in which it falls to 0 along a cosine."""
W_NOISE = 0.05
"""Initial standard deviation of the noise on w, in standard deviations of w."""
W_NOISE_PART = 0.75
"""Fraction of the steps in which it falls quadratically to 0."""
NOISE_MAP_WEIGHT = 1e5
MIN_NOISE_MAP_PX = 8
MIN_PX, MAX_PX = 64, 256
"""Images are resampled into this range for the detector: larger ones as in the paper, smaller ones because the maps of
deep networks would shrink to nothing."""


@dataclass(frozen=True)
class Steps:
    """Results of one optimization step for N targets.

    Attributes:
        ws: ``[N, 1, w_dim]``, or ``[N, L, w_dim]`` with one w per layer.
        distances: Squared distances between the features of the targets and of the images of ws (with noise),
            float32 [N].
    """

    ws: torch.Tensor
    distances: torch.Tensor


def project_many(
    G: Any,
    targets: torch.Tensor,
    detector: torch.nn.Module,
    label: torch.Tensor,
    num_steps: int = 1000,
    seed: int = 303,
    num_w_samples: int = NUM_W_SAMPLES,
    per_layer: bool = False,
) -> Iterator[Steps]:
    """Optimize the w of several targets at once, step by step; each gets the same noise on w and its own noise maps.

    Args:
        G: Generator without gradients; it is not modified.
        targets: ``[N, C, R, R]`` in 0..255, float32, with the shape of the images of ``G``.
        detector: Feature network with the interface of `metrics.detectors` and ``return_lpips``.
        label: Label of all images, ``[1, c_dim]``.
        num_steps: Number of steps.
        seed: Seed of the noise.
        num_w_samples: Number of samples for the mean and the standard deviation of w.
        per_layer: Optimize one w for each of the L layers: the space W+ (arXiv:1904.03189).

    Yields:
        The results of each step.
    """
    num = len(targets)
    rng = torch.Generator(targets.device).manual_seed(seed)
    w_mean, w_std = w_statistics(G, label, num_w_samples)
    noise_maps = {
        name: torch.randn(buffer.shape, generator=rng, device=targets.device).repeat(num, 1, 1, 1).requires_grad_()
        for name, buffer in G.synthesis.named_buffers()
        if name.endswith("noise_const")
    }
    target_features = perceptual_features(detector, targets)
    ws = w_mean.repeat(num, G.num_ws if per_layer else 1, 1).requires_grad_()
    optimizer = torch.optim.Adam([ws, *noise_maps.values()])
    for step in range(num_steps):
        progress = step / num_steps
        optimizer.param_groups[0]["lr"] = learning_rate(progress)
        spread = W_NOISE * w_std * max(0, 1 - progress / W_NOISE_PART) ** 2
        noisy_ws = ws + spread * torch.randn(ws.shape[1:], generator=rng, device=ws.device)
        img = synthesize_with(G, noisy_ws, noise_maps)
        distances = squared_distances(perceptual_features(detector, (img + 1) * 127.5), target_features)
        penalty = sum(noise_map_penalty(noise_map).sum() for noise_map in noise_maps.values())
        optimizer.zero_grad()
        (distances.sum() + NOISE_MAP_WEIGHT * penalty).backward()
        optimizer.step()
        normalize_(noise_maps)
        yield Steps(ws.detach().clone(), distances.detach())


def squared_distances(features: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return the squared distances between rows of two ``[N, P]``: [N]."""
    return (features - others).square().sum(dim=1)


def w_statistics(G: Any, label: torch.Tensor, num_samples: int) -> tuple[torch.Tensor, float]:
    """Return the mean of w ``[w_dim]``, and the root mean square distance from it."""
    w = sample_w(G, label, num_samples, W_SAMPLES_SEED)
    w_mean = w.mean(dim=0)
    return w_mean, (w - w_mean).square().sum(dim=1).mean().sqrt().item()


def learning_rate(progress: float) -> float:
    """Return the learning rate after the fraction ``progress``, 0..1, of the steps."""
    ramp_down = min(1, (1 - progress) / RAMP_DOWN)
    return LEARNING_RATE * min(1, progress / RAMP_UP) * 0.5 * (1 - math.cos(math.pi * ramp_down))


def synthesize_with(G: Any, ws: torch.Tensor, noise_maps: dict[str, torch.Tensor]) -> torch.Tensor:
    """Draw ``ws`` [N, 1 or L, w_dim] with the given noise maps in place of those of ``G``: images ``[N, C, R, R]``."""
    ws = ws.expand(-1, G.num_ws, -1)
    img: torch.Tensor = torch.func.functional_call(G.synthesis, noise_maps, (ws,), {"noise_mode": "const"})
    return img


def perceptual_features(detector: torch.nn.Module, img: torch.Tensor) -> torch.Tensor:
    """Return the features ``[N, P]`` of images ``[N, C, H, W]`` in 0..255 with 1 or 3 channels."""
    img = to_rgb(img)
    if img.shape[2] > MAX_PX:
        img = F.interpolate(img, size=(MAX_PX, MAX_PX), mode="area")
    if img.shape[2] < MIN_PX:
        img = F.interpolate(img, size=(MIN_PX, MIN_PX), mode="bilinear", align_corners=False)
    features: torch.Tensor = detector(img, resize_images=False, return_lpips=True)
    return features


def noise_map_penalty(noise_map: torch.Tensor) -> torch.Tensor:
    """Sum the squared autocorrelations of maps ``[..., R, R]`` at a shift of one pixel over scales to 8 px: [...]."""
    penalty = noise_map.new_zeros(noise_map.shape[:-2])
    while True:
        for dim in (-2, -1):
            penalty = penalty + (noise_map * noise_map.roll(1, dim)).mean(dim=(-2, -1)).square()
        if noise_map.shape[-1] <= MIN_NOISE_MAP_PX:
            return penalty
        # Averaging 2x2 independent values halves the standard deviation.
        halved = 2 * F.avg_pool2d(noise_map.reshape(-1, *noise_map.shape[-2:]), 2)
        noise_map = halved.reshape(*penalty.shape, *halved.shape[-2:])


def normalize_(noise_maps: dict[str, torch.Tensor]) -> None:
    """Normalize each map ``[..., R, R]`` to mean 0 and mean square 1, in place."""
    with torch.no_grad():
        for noise_map in noise_maps.values():
            noise_map -= noise_map.mean(dim=(-2, -1), keepdim=True)
            noise_map *= noise_map.square().mean(dim=(-2, -1), keepdim=True).rsqrt()
