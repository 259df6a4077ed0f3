"""Options of the metrics, and features of real and generated images, which most of them compare."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch

import dnnlib
from dnnlib.util import UserError
from metrics import cache, detectors
from metrics.feature_stats import FeatureStats
from metrics.generated import generate_batch, shard, to_rgb
from metrics.joint_failure import fails_together, in_step
from metrics.progress import ProgressMonitor
from torch_utils.distributed import from_rank0, rank0_first

__all__ = [
    "FeatureStats",
    "MetricOptions",
    "ProgressMonitor",
    "compute_feature_stats_for_dataset",
    "compute_feature_stats_for_generator",
    "get_feature_detector",
]

_GENERATED_PX = 2**22
"""Pixels that the generator draws per batch: 64 images of 256 x 256, 4 of 1024 x 1024."""

DETECTOR_BATCH_CPU = 4
"""Detector batch on a CPU: the maps of larger batches leave the cache, and 64 at once take five times as long."""

_NOT_CONTENT = ("path", "name", "use_labels", "resolution")
"""Keywords of a dataset that do not change which images it holds."""

_NUM_LOADERS_GPU = 3
"""Processes that read images for a GPU. On a CPU the detector is the bottleneck and gets all cores."""

_MAX_FILTER_CHARS = 100


class MetricOptions:
    """What to measure, and with what.

    Args:
        G: Generator; None if ``gen_dataset_kwargs`` replaces it.
        G_kwargs: Keywords of ``G.forward``, e.g. ``truncation_psi``.
        dataset_kwargs: Real images: ``class_name`` and its keywords.
        num_gpus: Number of processes that share the work: 1, or all of the process group.
        rank: Rank of this process.
        device: Device that computes. Default: a GPU if there is one.
        progress: Reports progress. Default: silent.
        cache: Use and keep statistics of real images on disk.
        seed: Seed of the latents, labels and noise of generated images and of random subsets.
        detector_folder: Folder of the user that is searched first for detector weights.
        gen_dataset_kwargs: Images that replace generated ones, in the form of ``dataset_kwargs``.
        batch_size: Images per batch of the detector; it does not affect the results.
        pretrained_D: Pretrained backbone of the generator's D and the images that it was trained on, such as
            ``EfficientNet-Lite0 (ImageNet)``; ``none``; or ``unknown``.
        object_detector: Name of the object detector (`metrics.objects.registry`). Default: what suits the real images.

    Attributes:
        protocol: Filled in by the metric: conditions of the measurement, without which values cannot be compared
            (docs/metrics.md).
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
        object_detector: str | None = None,
        pretrained_D: str = "unknown",
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
        self.object_detector = object_detector
        self.pretrained_D = pretrained_D
        self.protocol: dict[str, Any] = {"seed": seed}


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
        rank: Rank of this process.
        verbose: Announce a download.
        folder: Folder of the user that is searched first.

    Raises:
        UserError: Its weights are missing, or are a program that is not trusted; one line that says what to do.
    """
    with fails_together(num_gpus), rank0_first() if num_gpus > 1 else nullcontext():
        weights = detectors.find_weights(url, folder, verbose)
    with fails_together(num_gpus):
        return detectors.load_detector(detectors.get_detector(url), weights, torch.device(device))


def prepare_detector(opts: MetricOptions, url: str) -> torch.nn.Module:
    """Load a detector and record it in the protocol."""
    folder = opts.detector_folder
    detector = get_feature_detector(url, opts.device, opts.num_gpus, opts.rank, opts.progress.verbose, folder)
    with fails_together(opts.num_gpus):
        sha256 = detectors.weights_sha256(detectors.find_weights(url, folder))
    opts.protocol.update(detector=detectors.get_detector(url).name, detector_sha256=sha256)
    return detector


def prepare_generator(opts: MetricOptions, stack: ExitStack) -> tuple[Any, Any]:
    """Copy the generator to the device and, if it is conditional, open the dataset that provides labels.

    Args:
        opts: The generator and the dataset.
        stack: Closes the dataset.

    Returns:
        The generator, and the dataset or None.

    Raises:
        UserError: There is no generator.
    """
    if opts.G is None:
        raise UserError("this metric needs a generator, not a second dataset")
    G: Any = copy.deepcopy(opts.G).eval().requires_grad_(False).to(opts.device)
    opts.protocol.update(G_kwargs=dict(opts.G_kwargs), num_fp16_res=_num_fp16_blocks(G, opts))
    return G, stack.enter_context(_opened(opts.dataset_kwargs)) if G.c_dim > 0 else None


def _num_fp16_blocks(G: torch.nn.Module, opts: MetricOptions) -> int:
    """Number of synthesis blocks, one per resolution, that compute in half precision here: none on a CPU."""
    if opts.device.type == "cpu" or opts.G_kwargs.get("force_fp32"):
        return 0
    return sum(bool(getattr(module, "use_fp16", False)) for module in G.modules())


@contextmanager
def _opened(dataset_kwargs: dict[str, Any]) -> Iterator[Any]:
    dataset = dnnlib.util.construct_class_by_name(**dataset_kwargs)
    try:
        yield dataset
    finally:
        if hasattr(dataset, "close"):
            dataset.close()


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
    with ExitStack() as stack:
        with fails_together(opts.num_gpus):
            images = open_real_images(opts, stack, max_items, batch_size, data_loader_kwargs)
            stats_kwargs["max_items"] = images.num_items
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
    with ExitStack() as stack:
        with fails_together(opts.num_gpus):
            images = open_generated_images(opts, stack, max_items, batch_size, batch_gen)
        stats_kwargs["max_items"] = images.num_items
        progress = opts.progress.sub("generated images", images.num_items, rel_lo=rel_lo, rel_hi=rel_hi)
        return _extract(opts, images.batches, progress, detector, detector_kwargs, stats_kwargs)


class ImageSet(NamedTuple):
    """Images of one side of a comparison.

    Attributes:
        num_items: Number of images, of all processes together.
        batches: Those of this process: uint8 RGB [N, 3, H, W] on the device.
        indices: Their indices, 0 to ``num_items`` - 1, batch by batch; at the end an index may come again.
        dataset: Where they come from; None for a generator.
    """

    num_items: int
    batches: Iterator[torch.Tensor]
    indices: Iterator[list[int]]
    dataset: Any


def open_real_images(
    opts: MetricOptions,
    stack: ExitStack,
    max_items: int | None = None,
    batch_size: int | None = None,
    data_loader_kwargs: dict[str, Any] | None = None,
) -> ImageSet:
    """Open the real images and record them in the protocol; ``stack`` closes them.

    Args:
        opts: The dataset and the devices.
        stack: Closes the dataset.
        max_items: Use the first N images. Default: all.
        batch_size: Images per batch. Default: that of ``opts``.
        data_loader_kwargs: Keywords of ``torch.utils.data.DataLoader``.
    """
    batch_size = batch_size or opts.batch_size
    dataset = stack.enter_context(_opened(opts.dataset_kwargs))
    num_items = min(len(dataset), max_items or len(dataset))
    _record_images(opts, "real", num_items, dataset.image_shape, dataset)
    batches = _dataset_batches(opts, dataset, num_items, batch_size, data_loader_kwargs)
    return ImageSet(num_items, batches, shard(num_items, batch_size, opts.num_gpus, opts.rank), dataset)


def open_generated_images(
    opts: MetricOptions,
    stack: ExitStack,
    max_items: int,
    batch_size: int | None = None,
    batch_gen: int | None = None,
) -> ImageSet:
    """Open the generator, or the dataset that replaces it, and record it in the protocol; ``stack`` closes it.

    Args:
        opts: The generator, devices and seed.
        stack: Closes the dataset.
        max_items: Number of images to generate; from a dataset, the first N are used.
        batch_size: Images per batch. Default: that of ``opts``.
        batch_gen: Images per batch of the generator. Default: by resolution.
    """
    batch_size = batch_size or opts.batch_size
    dataset = None
    if opts.gen_dataset_kwargs is not None:
        dataset = stack.enter_context(_opened(opts.gen_dataset_kwargs))
        max_items = min(len(dataset), max_items)
        batches = _dataset_batches(opts, dataset, max_items, batch_size)
        _record_images(opts, "gen", max_items, dataset.image_shape, dataset)
    else:
        G, labels = prepare_generator(opts, stack)
        batches = _generated_batches(opts, G, labels, max_items, batch_size, batch_gen)
        _record_images(opts, "gen", max_items, [G.img_channels, G.img_resolution, G.img_resolution])
    if opts.rank == 0:
        _warn_of_different_shapes(opts)
    return ImageSet(max_items, batches, shard(max_items, batch_size, opts.num_gpus, opts.rank), dataset)


def _extract(
    opts: MetricOptions,
    batches: Iterable[torch.Tensor],
    progress: ProgressMonitor,
    detector: torch.nn.Module,
    detector_kwargs: dict[str, Any],
    stats_kwargs: dict[str, Any],
) -> FeatureStats:
    def features() -> Iterator[torch.Tensor]:
        for images in batches:
            parts = images.split(DETECTOR_BATCH_CPU if opts.device.type == "cpu" else len(images))
            yield torch.cat([detector(part, **detector_kwargs) for part in parts])

    stats = FeatureStats(**stats_kwargs)
    # Not inference_mode: training could not use the constants that a network caches in it.
    with torch.no_grad():
        for rows in in_step(features(), opts.num_gpus):
            stats.append_torch(rows, opts.num_gpus, opts.rank)
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
        generator=torch.Generator(),  # else it would draw from the global one
        **data_loader_kwargs,
    )
    for images, _labels in loader:
        yield to_rgb(images.to(opts.device))


def _generated_batches(
    opts: MetricOptions, G: Any, labels: Any, num_items: int, batch_size: int, batch_gen: int | None
) -> Iterator[torch.Tensor]:
    """Yield the generated images of this process, uint8 RGB on the device; ``labels`` is a dataset or None."""
    batch_gen = batch_gen or max(_GENERATED_PX // G.img_resolution**2, 1)
    for indices in shard(num_items, batch_size, opts.num_gpus, opts.rank):
        parts = [indices[i : i + batch_gen] for i in range(0, len(indices), batch_gen)]
        yield torch.cat([generate_batch(G, part, opts.seed, labels, opts.device, **opts.G_kwargs) for part in parts])


def _record_images(opts: MetricOptions, role: str, num_items: int, shape: list[int], dataset: Any = None) -> None:
    """Record number and shape of a set of images, and the content of a folder or zip."""
    opts.protocol.update({f"num_{role}": num_items, f"{role}_shape": list(shape)})
    archive = getattr(dataset, "archive", None)  # datasets of other origin have none
    if opts.rank == 0 and archive is not None:
        opts.protocol[f"{role}_fingerprint"] = archive.fingerprint()
        opts.protocol[f"{role}_resize_filter"] = _resize_filter(archive)


def _resize_filter(archive: Any) -> str | None:
    """How the images were resized, according to ``dataset.json``; None if that does not say, or is damaged."""
    try:
        resize_filter = archive.metadata().get("resize_filter")
    except UserError:  # only labels make a damaged file an error
        return None
    is_name = isinstance(resize_filter, str) and len(resize_filter) <= _MAX_FILTER_CHARS
    return resize_filter if is_name else None


def _warn_of_different_shapes(opts: MetricOptions) -> None:
    real, gen = (opts.protocol.get(f"{role}_shape") for role in ("real", "gen"))
    if real is None or gen is None or real == gen:
        return
    texts = (f"{shape[2]}x{shape[1]} with {shape[0]} color channel{'s'[: shape[0] > 1]}" for shape in (real, gen))
    print("Warning: the real images are {}, the generated ones {}; the value includes that difference".format(*texts))


def real_stats_path(opts: MetricOptions, **settings: Any) -> Path | None:
    """Path of the cached statistics of the real images, or None if they are not cached.

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
