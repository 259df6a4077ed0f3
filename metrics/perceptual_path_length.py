"""Perceptual path length: how much the image changes along paths in latent space.

"A Style-Based Generator Architecture for Generative Adversarial Networks" (arXiv:1812.04948, section 4.1)::

    l = E[ d(G(path(t)), G(path(t + epsilon))) / epsilon^2 ],   d = squared VGG16 perceptual distance

Paths between two random latents run on the sphere in Z and straight in W. ``sampling="end"`` fixes t = 0
("Analyzing and Improving the Image Quality of StyleGAN", arXiv:1912.04958). Both images of a pair use the same noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from metrics import metric_utils
from metrics.detectors import VGG16
from metrics.generated import ItemNoise, check_finite, draw_labels, item_rng, shard, to_rgb
from metrics.images import prepared_generator
from metrics.joint_failure import entered_together, in_step

_DETECTOR_PX = 256
"""Larger images are downsampled to this size (of the whole image) before they are compared."""

_PATHS_PX = 2**20
"""Pixels per batch and path end: 16 images of 256 x 256, 1 of 1024 x 1024."""


def slerp(a: torch.Tensor, b: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Interpolate on the unit sphere, at the fraction t of the angle: [N, D], [N, D], [N, 1] -> [N, D] of length 1."""
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    angle = t * (a * b).sum(dim=1, keepdim=True).clamp(-1, 1).acos()
    orthogonal = F.normalize(b - (a * b).sum(dim=1, keepdim=True) * a, dim=1)
    return a * angle.cos() + orthogonal * angle.sin()


def trimmed_mean(distances: np.ndarray) -> float:
    """Return the mean of the values between the 1st and 99th percentile, both rounded outwards to actual values."""
    low = np.percentile(distances, 1, method="lower")
    high = np.percentile(distances, 99, method="higher")
    return float(distances[(distances >= low) & (distances <= high)].mean())


def path_ends(
    G: Any, z0: torch.Tensor, z1: torch.Tensor, c: torch.Tensor, t: torch.Tensor, epsilon: float, space: str
) -> torch.Tensor:
    """Return the intermediate latents at t and at t + epsilon: [2 N, num_ws, w_dim].

    Args:
        G: The generator.
        z0: Start of the paths [N, z_dim].
        z1: End of the paths [N, z_dim].
        c: Labels [N, c_dim], constant along a path.
        t: Position on the path [N, 1], 0..1.
        epsilon: Step length.
        space: ``"z"`` or ``"w"``.
    """
    both_t = torch.cat([t, t + epsilon])
    both_c = torch.cat([c, c])
    if space == "z":
        return G.mapping(slerp(z0.repeat(2, 1), z1.repeat(2, 1), both_t), both_c)
    w0, w1 = G.mapping(torch.cat([z0, z1]), both_c).chunk(2)
    return torch.lerp(w0.repeat(2, 1, 1), w1.repeat(2, 1, 1), both_t[:, :, None])


def compute_ppl(
    opts: metric_utils.MetricOptions,
    num_samples: int,
    epsilon: float,
    space: str,
    sampling: str,
    crop: bool,
    batch_size: int | None = None,
    detector_url: str = VGG16,
) -> float:
    """Return the mean length over ``num_samples`` paths.

    Every process must call this; the value is NaN except on rank 0.

    Args:
        opts: The generator, devices and seed.
        num_samples: Number of paths.
        epsilon: Step along a path.
        space: ``"z"`` or ``"w"``.
        sampling: ``"full"`` steps anywhere on a path, ``"end"`` at its start.
        crop: Compare only the center of the image, where FFHQ has the face.
        batch_size: Paths per batch. Default: by resolution, whatever ``opts.batch_size`` is, because differences of
            nearly equal images show the rounding errors of a batch.
        detector_url: What `metrics.detectors.get_detector` accepts.
    """
    detector = metric_utils.prepare_detector(opts, detector_url)
    opts.protocol["num_gen"] = num_samples
    opts.G_kwargs.force_fp32 = True  # half precision would drown the differences
    stats = metric_utils.FeatureStats(capture_all=True, max_items=num_samples)
    progress = opts.progress.sub("paths", num_samples)

    def path_lengths() -> Iterator[torch.Tensor]:
        for indices in shard(num_samples, batch_size or _paths_at_once(G), opts.num_gpus, opts.rank):
            rngs = [item_rng(opts.seed, index) for index in indices]
            ws = _draw_path_ends(G, rngs, dataset, opts.device, epsilon, space, sampling)
            with ItemNoise([rng.randint(2**31 - 1) for rng in rngs] * 2, opts.device):
                img = _prepare_images(G.synthesis(ws, **opts.G_kwargs), crop)
            ends = detector(img, resize_images=False, return_lpips=True)
            yield (ends[len(indices) :] - ends[: len(indices)]).square().sum(dim=1, keepdim=True) / epsilon**2

    with entered_together(prepared_generator(opts), opts.num_gpus) as (G, dataset), torch.no_grad():
        for lengths in in_step(path_lengths(), opts.num_gpus):
            stats.append_torch(lengths, opts.num_gpus, opts.rank)
            progress.update(stats.num_items)
    return trimmed_mean(stats.get_all()) if opts.rank == 0 else float("nan")


def _paths_at_once(G: Any) -> int:
    return max(_PATHS_PX // G.img_resolution**2, 1)


def _draw_path_ends(
    G: Any,
    rngs: list[np.random.RandomState],
    dataset: Any,
    device: torch.device,
    epsilon: float,
    space: str,
    sampling: str,
) -> torch.Tensor:
    """Draw one path per generator of random numbers; return both ends of its step as `path_ends` does."""
    z = torch.from_numpy(np.stack([rng.randn(2, G.z_dim) for rng in rngs])).to(device, torch.float32)
    t = torch.tensor([[rng.uniform() if sampling == "full" else 0.0] for rng in rngs], device=device)
    c = draw_labels(rngs, G.c_dim, dataset, device)
    return path_ends(G, z[:, 0], z[:, 1], c, t, epsilon, space)


def _prepare_images(img: torch.Tensor, crop: bool) -> torch.Tensor:
    """Convert generated images [N, C, H, W] to RGB in 0..255, cropped and downsampled for the detector."""
    check_finite(img)
    factor = img.shape[2] // _DETECTOR_PX
    if crop:
        unit = img.shape[2] // 8
        img = img[:, :, 3 * unit : 7 * unit, 2 * unit : 6 * unit]
    if factor > 1:
        img = F.avg_pool2d(img, factor)
    return to_rgb((img + 1) * 127.5)
