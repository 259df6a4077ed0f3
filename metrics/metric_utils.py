"""Features of real and generated images, which most metrics compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from metrics import cache, detectors
from metrics.feature_stats import FeatureStats
from metrics.images import Batch, generated_images, real_images
from metrics.joint_failure import entered_together, fails_together, in_step
from metrics.options import MetricOptions
from metrics.progress import ProgressMonitor
from metrics.weights import find_weights, weights_sha256
from torch_utils.distributed import from_rank0, rank0_first

__all__ = [
    "FeatureStats",
    "MetricOptions",
    "ProgressMonitor",
    "compute_feature_stats_for_dataset",
    "compute_feature_stats_for_generator",
    "get_feature_detector",
]

DETECTOR_BATCH_CPU = 4
"""Detector batch on a CPU: the maps of larger batches leave the cache, and 64 at once take five times as long."""

_NOT_CONTENT = ("path", "name", "use_labels", "resolution")
"""Keywords of a dataset that do not change which images it holds."""


def get_feature_detector(
    url: str,
    device: torch.device | str = "cpu",
    num_gpus: int = 1,
    rank: int = 0,
    verbose: bool = False,
    folder: str | None = None,
) -> torch.nn.Module:
    """Load a detector (see `metrics.detectors`); rank 0 goes first, so that only one process downloads.

    Args:
        url: What `metrics.detectors.get_detector` accepts.
        device: Device of the detector.
        num_gpus: Number of processes; all of them must call this.
        rank: Not used; accepted for compatibility.
        verbose: Announce a download.
        folder: Folder of the user that is searched first.

    Raises:
        UserError: Its weights are missing, or are a program that is not trusted; one line that says what to do.
    """
    with fails_together(num_gpus), rank0_first() if num_gpus > 1 else nullcontext():
        weights = find_weights(url, folder, verbose)
    with fails_together(num_gpus):
        return detectors.load_detector(detectors.get_detector(url), weights, torch.device(device))


def prepare_detector(opts: MetricOptions, url: str) -> torch.nn.Module:
    """Load a detector and record it in the protocol."""
    folder = opts.detector_folder
    detector = get_feature_detector(url, opts.device, opts.num_gpus, opts.rank, opts.progress.verbose, folder)
    with fails_together(opts.num_gpus):
        sha256 = weights_sha256(find_weights(url, folder))
    opts.protocol.update(detector=detectors.get_detector(url).name, detector_sha256=sha256)
    return detector


def compute_feature_stats_for_dataset(
    opts: MetricOptions,
    detector_url: str,
    detector_kwargs: dict[str, Any],
    rel_lo: float = 0,
    rel_hi: float = 1,
    batch_size: int | None = None,
    data_loader_kwargs: dict[str, Any] | None = None,
    max_items: int | None = None,
    **stats_kwargs: Any,
) -> FeatureStats:
    """Compute features of the real images, or read their statistics from the cache.

    All processes must call this. Statistics from the cache are complete on rank 0 only.

    Args:
        opts: The dataset, devices and seed.
        detector_url: What `metrics.detectors.get_detector` accepts.
        detector_kwargs: Keywords of the detector.
        rel_lo: Progress of the metric, 0..1, when this starts.
        rel_hi: Progress of the metric, 0..1, when this ends.
        batch_size: Images per batch. Default: that of ``opts``.
        data_loader_kwargs: Keywords of ``torch.utils.data.DataLoader``.
        max_items: Use the first N images. Default: all.
        **stats_kwargs: Keywords of `FeatureStats`.
    """
    detector = prepare_detector(opts, detector_url)
    opened = real_images(opts, max_items, batch_size, data_loader_kwargs)
    with entered_together(opened, opts.num_gpus) as images:
        stats_kwargs["max_items"] = images.num_items
        with fails_together(opts.num_gpus):
            path = real_stats_path(opts, detector_kwargs=detector_kwargs, stats_kwargs=stats_kwargs)
            cached = cache.load_stats(path, stats_kwargs)
        is_cached = cached is not None if opts.num_gpus == 1 else from_rank0(cached is not None)
        if is_cached:
            return cached or FeatureStats(**stats_kwargs)
        progress = opts.progress.sub("real images", images.num_items, rel_lo=rel_lo, rel_hi=rel_hi)
        stats = _extract(opts, images.batches, progress, detector, detector_kwargs, stats_kwargs)
    cache.save_stats(path, stats)
    return stats


def compute_feature_stats_for_generator(
    opts: MetricOptions,
    detector_url: str,
    detector_kwargs: dict[str, Any],
    rel_lo: float = 0,
    rel_hi: float = 1,
    batch_size: int | None = None,
    batch_gen: int | None = None,
    *,
    max_items: int,
    **stats_kwargs: Any,
) -> FeatureStats:
    """Compute features of generated images, or of the dataset that replaces them.

    All processes must call this.

    Args:
        opts: The generator, devices and seed.
        detector_url: What `metrics.detectors.get_detector` accepts.
        detector_kwargs: Keywords of the detector.
        rel_lo: Progress of the metric, 0..1, when this starts.
        rel_hi: Progress of the metric, 0..1, when this ends.
        batch_size: Images per batch of the detector. Default: that of ``opts``.
        batch_gen: Images per batch of the generator. Default: by resolution.
        max_items: Number of images to generate; from a dataset, the first N are used.
        **stats_kwargs: Keywords of `FeatureStats`.
    """
    detector = prepare_detector(opts, detector_url)
    opened = generated_images(opts, max_items, batch_size, batch_gen)
    with entered_together(opened, opts.num_gpus) as images:
        stats_kwargs["max_items"] = images.num_items
        progress = opts.progress.sub("generated images", images.num_items, rel_lo=rel_lo, rel_hi=rel_hi)
        return _extract(opts, images.batches, progress, detector, detector_kwargs, stats_kwargs)


def capture_all(_max_items: int | None) -> dict[str, Any]:
    """Keep the features of all images (`FeatureStats`)."""
    return {"capture_all": True}


def compute_feature_stats_of_both(
    opts: MetricOptions,
    detector_url: str,
    max_real: int | None,
    num_gen: int,
    capture: Callable[[int | None], dict[str, Any]] = capture_all,
) -> tuple[FeatureStats, FeatureStats]:
    """Compute the features that distances compare, of real and of generated images; all processes must call this.

    Args:
        opts: Both sets of images, devices and seed.
        detector_url: What `metrics.detectors.get_detector` accepts.
        max_real: Number of real images at most; None for all.
        num_gen: Number of generated images.
        capture: What to keep of the features of a number of images: keywords of `FeatureStats`.
    """
    features = {"return_features": True}
    real = compute_feature_stats_for_dataset(opts, detector_url, features, max_items=max_real, **capture(max_real))
    gen = compute_feature_stats_for_generator(opts, detector_url, features, max_items=num_gen, **capture(num_gen))
    return real, gen


def _extract(
    opts: MetricOptions,
    batches: Iterable[Batch],
    progress: ProgressMonitor,
    detector: torch.nn.Module,
    detector_kwargs: dict[str, Any],
    stats_kwargs: dict[str, Any],
) -> FeatureStats:
    def features() -> Iterator[torch.Tensor]:
        for _indices, images in batches:
            parts = images.split(DETECTOR_BATCH_CPU if opts.device.type == "cpu" else len(images))
            yield torch.cat([detector(part, **detector_kwargs) for part in parts])

    stats = FeatureStats(**stats_kwargs)
    # Not inference_mode: training could not use the constants that a network caches in it.
    with torch.no_grad():
        for rows in in_step(features(), opts.num_gpus):
            stats.append_torch(rows, opts.num_gpus, opts.rank)
            progress.update(stats.num_items)
    return stats


def real_stats_path(opts: MetricOptions, **settings: Any) -> Path | None:
    """Return the path of the cached statistics of the real images, or None if they are not cached.

    Args:
        opts: The real images and the detector, both prepared.
        settings: What else the statistics depend on, as plain JSON values.
    """
    if not opts.cache or "real_fingerprint" not in opts.protocol:
        return None
    return cache.stats_path(
        dataset=opts.protocol["real_fingerprint"],
        dataset_kwargs={key: value for key, value in opts.dataset_kwargs.items() if key not in _NOT_CONTENT},
        detector=opts.protocol["detector_sha256"],
        **settings,
    )
