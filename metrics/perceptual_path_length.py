"""Perceptual path length: how abruptly images change along paths in latent space.

"A Style-Based Generator Architecture for Generative Adversarial Networks" (arXiv:1812.04948, section 4.1)::

    l = E[ d(G(path(t)), G(path(t + epsilon))) / epsilon^2 ],   d = squared VGG16 perceptual distance

Paths between two random latents run on the sphere in Z and straight in W. ``sampling="end"`` fixes t = 0
("Analyzing and Improving the Image Quality of StyleGAN", arXiv:1912.04958). Both images of a pair share the noise maps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from metrics import metric_utils
from metrics.detectors import VGG16
from metrics.generated import ItemNoise, draw_labels, item_rng, shard, to_rgb

_DETECTOR_PX = 256
"""Larger images are averaged down to this size (that of the whole image) before they are compared."""

_PATHS_PX = 2**20
"""Pixels per end of the paths that are worked on at once: 16 images of 256 x 256, 1 of 1024 x 1024."""


def slerp(a: torch.Tensor, b: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Move from a to b on the unit sphere, t = 0..1 of the angle: [N, D], [N, D], [N, 1] -> [N, D] of length 1."""
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    angle = t * (a * b).sum(dim=1, keepdim=True).clamp(-1, 1).acos()
    orthogonal = F.normalize(b - (a * b).sum(dim=1, keepdim=True) * a, dim=1)
    return a * angle.cos() + orthogonal * angle.sin()


def trimmed_mean(distances: np.ndarray) -> float:
    """Average what lies between the 1st and 99th percentile (CONTRACT 10), both rounded outwards to actual values."""
    low = np.percentile(distances, 1, method="lower")
    high = np.percentile(distances, 99, method="higher")
    return float(distances[(distances >= low) & (distances <= high)].mean())


def path_ends(
    G: Any, z0: torch.Tensor, z1: torch.Tensor, c: torch.Tensor, t: torch.Tensor, epsilon: float, space: str
) -> torch.Tensor:
    """Find the intermediate latents at t and at t + epsilon: [2 N, num_ws, w_dim].

    Args:
        G: The generator.
        z0: Where the paths begin [N, z_dim].
        z1: Where they end [N, z_dim].
        c: Labels [N, c_dim], the same along a path.
        t: Position on the path [N, 1], 0..1.
        epsilon: Step.
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
    """Measure the mean length over ``num_samples`` paths; NaN except on rank 0.

    Args:
        opts: The generator and the rest.
        num_samples: Number of paths.
        epsilon: Step along a path.
        space: ``"z"`` or ``"w"``.
        sampling: ``"full"`` steps anywhere on a path, ``"end"`` at its beginning.
        crop: Compare the middle of the image only, where FFHQ has the face.
        batch_size: Paths at once. Default: by resolution, whatever ``opts.batch_size`` is, because differences of
            nearly equal images show how a batch was rounded.
        detector_url: What `metrics.detectors.get_detector` accepts.
    """
    G, dataset = metric_utils.prepare_generator(opts)
    detector = metric_utils.prepare_detector(opts, detector_url)
    stats = metric_utils.FeatureStats(capture_all=True, max_items=num_samples)
    progress = opts.progress.sub("paths", num_samples)
    batch_size = batch_size or max(_PATHS_PX // G.img_resolution**2, 1)
    opts.protocol["num_gen"] = num_samples
    with torch.no_grad():
        for indices in shard(num_samples, batch_size, opts.num_gpus, opts.rank):
            rngs = [item_rng(opts.seed, index) for index in indices]
            ws = _draw_path_ends(G, rngs, dataset, opts.device, epsilon, space, sampling)
            with ItemNoise([rng.randint(2**31 - 1) for rng in rngs] * 2, opts.device):
                img = _prepare_images(G.synthesis(ws, force_fp32=True, **opts.G_kwargs), crop)
            ends = detector(img, resize_images=False, return_lpips=True)
            distances = (ends[len(indices) :] - ends[: len(indices)]).square().sum(dim=1, keepdim=True)
            stats.append_torch(distances / epsilon**2, opts.num_gpus, opts.rank)
            progress.update(stats.num_items)
    return trimmed_mean(stats.get_all()) if opts.rank == 0 else float("nan")


def _draw_path_ends(
    G: Any,
    rngs: list[np.random.RandomState],
    dataset: Any,
    device: torch.device,
    epsilon: float,
    space: str,
    sampling: str,
) -> torch.Tensor:
    """Draw one path per source of randomness."""
    z = torch.from_numpy(np.stack([rng.randn(2, G.z_dim) for rng in rngs])).to(device, torch.float32)
    t = torch.tensor([[rng.uniform() if sampling == "full" else 0.0] for rng in rngs], device=device)
    c = draw_labels(rngs, G.c_dim, dataset, device)
    return path_ends(G, z[:, 0], z[:, 1], c, t, epsilon, space)


def _prepare_images(img: torch.Tensor, crop: bool) -> torch.Tensor:
    """Bring generated images [N, C, H, W] to RGB in 0..255 at the size that is compared."""
    factor = img.shape[2] // _DETECTOR_PX
    if crop:
        unit = img.shape[2] // 8
        img = img[:, :, 3 * unit : 7 * unit, 2 * unit : 6 * unit]
    if factor > 1:
        img = F.avg_pool2d(img, factor)
    return to_rgb((img + 1) * 127.5)
