"""What the metrics share: their options, and features of real or generated images."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch

import dnnlib
from dnnlib.util import UserError
from metrics import cache, detectors
from metrics.feature_stats import FeatureStats
from metrics.generated import generate_batch, shard, to_rgb
from metrics.progress import ProgressMonitor

__all__ = [
    "FeatureStats",
    "MetricOptions",
    "ProgressMonitor",
    "compute_feature_stats_for_dataset",
    "compute_feature_stats_for_generator",
    "get_feature_detector",
]

T = TypeVar("T")

_GENERATED_PX = 2**22
"""Pixels that the generator makes at once: 64 images of 256 x 256, 4 of 1024 x 1024."""

_DETECTOR_BATCH_CPU = 4
"""Images that a detector sees at once on a CPU: larger maps leave the cache, and 64 at once take five times as long."""

_NOT_CONTENT = ("path", "name", "use_labels", "resolution")
"""Keywords of a dataset that do not change which images it holds."""

_NUM_LOADERS_GPU = 3
"""Processes that read images while a GPU extracts features. On a CPU the network is the bottleneck and gets it all."""


class MetricOptions:
    """What to measure and with what.

    Args:
        G: Generator; None when ``gen_dataset_kwargs`` takes its place.
        G_kwargs: Keywords of ``G.forward``, e.g. ``truncation_psi``.
        dataset_kwargs: Real images: ``class_name`` and its keywords.
        num_gpus: Number of processes that share the work; they must have joined a process group.
        rank: Which of them this is.
        device: Where to compute. Default: a GPU if there is one.
        progress: Where to report progress. Default: nowhere.
        cache: Use and keep statistics of real images on disk.
        seed: Seed of the latents, labels and noise of generated images and of random subsets.
        detector_folder: Folder of the user's that is searched for weights first.
        gen_dataset_kwargs: Images to take for generated ones, like ``dataset_kwargs``.
        batch_size: Images that a detector sees at once. No result depends on it.

    Attributes:
        protocol: Filled in by the metric: what a value must be quoted with.
    """

    def __init__(
        self,
        G: torch.nn.Module | None = None,
        G_kwargs: dict[str, Any] | None = None,
        dataset_kwargs: dict[str, Any] | None = None,
        num_gpus: int = 1,
        rank: int = 0,
        device: torch.device | str | None = None,
        progress: ProgressMonitor | None = None,
        cache: bool = True,
        seed: int = 0,
        detector_folder: str | None = None,
        gen_dataset_kwargs: dict[str, Any] | None = None,
        batch_size: int = 64,
    ) -> None:
        self.G = G
        self.G_kwargs = dnnlib.EasyDict(G_kwargs or {})
        self.dataset_kwargs = dnnlib.EasyDict(dataset_kwargs or {})
        self.num_gpus = num_gpus
        self.rank = rank
        default_device = f"cuda:{rank}" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device or default_device)
        self.progress = progress.sub() if progress is not None and rank == 0 else ProgressMonitor()
        self.cache = cache
        self.seed = seed
        self.detector_folder = detector_folder
        self.gen_dataset_kwargs = None if gen_dataset_kwargs is None else dnnlib.EasyDict(gen_dataset_kwargs)
        self.batch_size = batch_size
        self.protocol: dict[str, Any] = {"seed": seed}


def get_feature_detector(
    url: str,
    device: torch.device | str = "cpu",
    num_gpus: int = 1,
    rank: int = 0,
    verbose: bool = False,
    folder: str | None = None,
) -> torch.nn.Module:
    """Load a detector (see `metrics.detectors`) on ``device``; rank 0 goes first so that only one process downloads.

    Raises:
        UserError: Its weights are missing; one line that says how to get them.
    """
    if num_gpus > 1 and rank > 0:
        torch.distributed.barrier()
    try:
        weights = detectors.find_weights(url, folder, verbose)
    finally:
        if num_gpus > 1 and rank == 0:
            torch.distributed.barrier()
    return detectors.load_detector(detectors.get_detector(url), weights, torch.device(device))


def prepare_detector(opts: MetricOptions, url: str) -> torch.nn.Module:
    """Load a detector and put it on the record."""
    folder = opts.detector_folder
    detector = get_feature_detector(url, opts.device, opts.num_gpus, opts.rank, opts.progress.verbose, folder)
    sha256 = detectors.weights_sha256(detectors.find_weights(url, folder))
    opts.protocol.update(detector=detectors.get_detector(url).name, detector_sha256=sha256)
    return detector


def prepare_generator(opts: MetricOptions) -> tuple[Any, Any]:
    """Copy the generator to the device for evaluation; open the dataset that it draws labels from, if it needs any.

    Raises:
        UserError: There is no generator.
    """
    if opts.G is None:
        raise UserError("this metric needs a generator, not a second dataset")
    G: Any = copy.deepcopy(opts.G).eval().requires_grad_(False).to(opts.device)
    opts.protocol.update(G_kwargs=dict(opts.G_kwargs), num_fp16_res=getattr(G.synthesis, "num_fp16_res", None))
    return G, dnnlib.util.construct_class_by_name(**opts.dataset_kwargs) if G.c_dim > 0 else None


def from_rank0(value: T, num_gpus: int) -> T:
    """Give every process the value of rank 0."""
    if num_gpus == 1:
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]


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
    """Compute features of real images, or find them in the cache.

    With several processes all of them must call this. What comes from the cache is complete on rank 0 only.

    Args:
        opts: The dataset and the rest.
        detector_url: What `metrics.detectors.get_detector` accepts.
        detector_kwargs: Keywords of the detector.
        rel_lo: Where in the progress of the metric this begins.
        rel_hi: Where it ends.
        batch_size: Default: that of ``opts``.
        data_loader_kwargs: Keywords of ``torch.utils.data.DataLoader``.
        max_items: Take the first so many images. Default: all.
        **stats_kwargs: Keywords of `FeatureStats`.
    """
    dataset = dnnlib.util.construct_class_by_name(**opts.dataset_kwargs)
    num_items = min(len(dataset), max_items or len(dataset))
    stats_kwargs["max_items"] = num_items
    detector = prepare_detector(opts, detector_url)
    _record_images(opts, "real", opts.dataset_kwargs, num_items)

    path = _cache_path(opts, detector_kwargs, stats_kwargs)
    cached = _load_cached(path, stats_kwargs)
    if from_rank0(cached is not None, opts.num_gpus):
        return cached or FeatureStats(**stats_kwargs)
    batches = _dataset_batches(opts, dataset, num_items, batch_size or opts.batch_size, data_loader_kwargs)
    progress = opts.progress.sub("real images", num_items, rel_lo=rel_lo, rel_hi=rel_hi)
    stats = _extract(opts, batches, progress, detector, detector_kwargs, stats_kwargs)
    _save_cached(path, stats)
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
    """Compute features of generated images, or of the images that ``opts`` names in their place.

    Args:
        opts: The generator and the rest.
        detector_url: What `metrics.detectors.get_detector` accepts.
        detector_kwargs: Keywords of the detector.
        rel_lo: Where in the progress of the metric this begins.
        rel_hi: Where it ends.
        batch_size: Images that the detector sees at once. Default: that of ``opts``.
        batch_gen: Images that the generator makes at once. Default: by resolution.
        max_items: How many images to generate; of a dataset, the first so many.
        **stats_kwargs: Keywords of `FeatureStats`.
    """
    batch_size = batch_size or opts.batch_size
    detector = prepare_detector(opts, detector_url)
    if opts.gen_dataset_kwargs is not None:
        dataset = dnnlib.util.construct_class_by_name(**opts.gen_dataset_kwargs)
        max_items = min(len(dataset), max_items)
        batches = _dataset_batches(opts, dataset, max_items, batch_size)
    else:
        batches = _generated_batches(opts, max_items, batch_size, batch_gen)
    _record_images(opts, "gen", opts.gen_dataset_kwargs or {}, max_items)
    progress = opts.progress.sub("generated images", max_items, rel_lo=rel_lo, rel_hi=rel_hi)
    return _extract(opts, batches, progress, detector, detector_kwargs, {**stats_kwargs, "max_items": max_items})


def _extract(
    opts: MetricOptions,
    batches: Iterable[torch.Tensor],
    progress: ProgressMonitor,
    detector: torch.nn.Module,
    detector_kwargs: dict[str, Any],
    stats_kwargs: dict[str, Any],
) -> FeatureStats:
    stats = FeatureStats(**stats_kwargs)
    # Not inference_mode: constants that a network caches in there could not be used in training any more.
    with torch.no_grad():
        for images in batches:
            parts = images.split(_DETECTOR_BATCH_CPU if opts.device.type == "cpu" else len(images))
            features = torch.cat([detector(part, **detector_kwargs) for part in parts])
            stats.append_torch(features, opts.num_gpus, opts.rank)
            progress.update(stats.num_items)
    return stats


def _dataset_batches(
    opts: MetricOptions,
    dataset: Any,
    num_items: int,
    batch_size: int,
    data_loader_kwargs: dict[str, Any] | None = None,
) -> Iterator[torch.Tensor]:
    """Yield the images of this process, uint8 RGB on the device."""
    on_gpu = opts.device.type == "cuda"
    if data_loader_kwargs is None:
        data_loader_kwargs = {"num_workers": _NUM_LOADERS_GPU if on_gpu else 0, "pin_memory": on_gpu}
    batch_indices = list(shard(num_items, batch_size, opts.num_gpus, opts.rank))
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_sampler=batch_indices,
        generator=torch.Generator(),  # else it draws from the global one
        **data_loader_kwargs,
    )
    for images, _labels in loader:
        yield to_rgb(images.to(opts.device))


def _generated_batches(
    opts: MetricOptions, num_items: int, batch_size: int, batch_gen: int | None
) -> Iterator[torch.Tensor]:
    """Yield the generated images of this process, uint8 RGB on the device."""
    G, dataset = prepare_generator(opts)
    batch_gen = batch_gen or max(_GENERATED_PX // G.img_resolution**2, 1)
    for indices in shard(num_items, batch_size, opts.num_gpus, opts.rank):
        parts = [indices[i : i + batch_gen] for i in range(0, len(indices), batch_gen)]
        yield torch.cat([generate_batch(G, part, opts.seed, dataset, opts.device, **opts.G_kwargs) for part in parts])


def _record_images(opts: MetricOptions, role: str, dataset_kwargs: dict[str, Any], num_items: int) -> None:
    """Put on the record how many images play a role, and, where they lie in a folder or zip, what these hold."""
    opts.protocol[f"num_{role}"] = num_items
    if opts.rank == 0 and "path" in dataset_kwargs:
        opts.protocol[f"{role}_fingerprint"] = cache.dataset_fingerprint(dataset_kwargs["path"])
        opts.protocol[f"{role}_resize_filter"] = cache.resize_filter(dataset_kwargs["path"])


def _cache_path(opts: MetricOptions, detector_kwargs: dict[str, Any], stats_kwargs: dict[str, Any]) -> Path | None:
    """Name the file for statistics of the real images; None where there is to be none."""
    if not opts.cache or "real_fingerprint" not in opts.protocol:
        return None
    return cache.stats_path(
        dataset=opts.protocol["real_fingerprint"],
        dataset_kwargs={key: value for key, value in opts.dataset_kwargs.items() if key not in _NOT_CONTENT},
        detector=opts.protocol["detector_sha256"],
        detector_kwargs=detector_kwargs,
        stats_kwargs=stats_kwargs,
    )


def _load_cached(path: Path | None, stats_kwargs: dict[str, Any]) -> FeatureStats | None:
    """Read statistics from the cache; None if they are not there or damaged."""
    if path is None or not path.is_file():
        return None
    try:
        stats = FeatureStats.load(path, **stats_kwargs)
    except (OSError, ValueError) as err:
        print(f"Computing the statistics of the real images again: {err}")
        return None
    print(f"Statistics of the real images come from the cache: {path}")
    return stats


def _save_cached(path: Path | None, stats: FeatureStats) -> None:
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stats.save(path)
    except OSError as err:
        print(f"Statistics of the real images are not cached: {err}")
