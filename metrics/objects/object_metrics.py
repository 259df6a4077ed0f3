"""Distances between the objects of real and of generated images, per category, and their numbers per image.

The same detector, with the same threshold and smallest size, finds the objects on both sides, and its boxes are cut out
as squares. The kernel distance (arXiv:1801.01401) or the Frechet distance (arXiv:1706.08500) compares the features of
equally many crops of one category, drawn at random: the idea of SceneFID (arXiv:2003.07449), with detected boxes. Crops
say nothing about missing objects, so every value comes with the numbers of objects per image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from dnnlib.errors import UserError
from metrics import cache
from metrics.detectors import EFFLITE1
from metrics.efficientnet import RESOLUTION_PX
from metrics.feature_stats import FeatureStats
from metrics.frechet_inception_distance import frechet_distance, gaussian_from_features
from metrics.images import generated_images, real_images
from metrics.joint_failure import entered_together, fails_together
from metrics.kernel_inception_distance import squared_mmd
from metrics.metric_utils import DETECTOR_BATCH_CPU, MetricOptions, prepare_detector, real_stats_path
from metrics.objects.crops import MARGIN, THRESHOLD, CropSample, min_side_px, resized
from metrics.objects.protocol import ObjectDetector
from metrics.objects.registry import default_object_detector, load_object_detector
from metrics.objects.survey import Survey, survey
from torch_utils.distributed import rank0_first

MIN_CROPS = 50
"""The kernel distance of fewer crops is mostly chance."""

MIN_PER_IMAGE = 0.01
"""Categories that are rarer on both sides are not listed."""

_FEATURE_BATCH = 16


def category_suffix(category: str) -> str:
    """Return a category as part of the name of a metric: ``street_light``."""
    return category.replace(" ", "_")


def find_category(detector: ObjectDetector, suffix: str) -> int:
    """Return the label of a category, which is given as `category_suffix` writes it.

    Raises:
        UserError: The detector does not know it.
    """
    by_suffix = {category_suffix(category): label for label, category in enumerate(detector.categories)}
    if suffix not in by_suffix:
        raise UserError(f"object detector {detector.name} has no {suffix!a}: choose from {', '.join(by_suffix)}")
    return by_suffix[suffix]


def kernel(real: np.ndarray, gen: np.ndarray) -> float:
    """Return the kernel distance of two sets of features: one unbiased estimate from all of them, perhaps negative.

    Args:
        real: float32 [n, D].
        gen: float32 [n, D], with the same n.
    """
    return squared_mmd(gen.astype(np.float64), real.astype(np.float64))


def frechet(real: np.ndarray, gen: np.ndarray) -> float:
    """Return the Frechet distance of two sets of features, biased upwards, the more the smaller n is.

    Args:
        real: float32 [n, D].
        gen: float32 [n, D], with the same n.
    """
    return frechet_distance(gaussian_from_features(real), gaussian_from_features(gen))


def object_distance(
    opts: MetricOptions,
    name: str,
    suffix: str,
    num_images: int,
    max_crops: int,
    min_crops: int = MIN_CROPS,
    distance: Callable[[np.ndarray, np.ndarray], float] = kernel,
) -> dict[str, float]:
    """Compute the distance between the objects of one category, and their numbers per image.

    Every process must call this; the values of rank 0 are those that count.

    Args:
        opts: Both sets of images, and the object detector.
        name: Name of the metric.
        suffix: The category, as `category_suffix` writes it.
        num_images: Images to look at on each side, or all if there are fewer.
        max_crops: Crops to compare, the same number on both sides.
        min_crops: With fewer the value is NaN, and ``protocol["reason"]`` says why.
        distance: `kernel` or `frechet`.

    Raises:
        UserError: The detector does not know the category, or something is missing.
    """
    features = prepare_detector(opts, EFFLITE1)
    detector = prepare_object_detector(opts)
    label = find_category(detector, suffix)
    real, gen = surveys(opts, detector, num_images, label, max_crops)
    num_crops = min(len(real.sample.kept), len(gen.sample.kept))
    opts.protocol["num_crops"] = num_crops
    value = math.nan
    if num_crops < min_crops:
        opts.protocol["reason"] = (
            f"too few objects: {len(real.sample.kept)} real and {len(gen.sample.kept)} generated ones, {min_crops} of "
            "each are needed"
        )
    elif opts.rank == 0:
        value = distance(
            real_crop_features(opts, features, real.sample, suffix)[:num_crops],
            crop_features(opts, features, gen.sample.best(num_crops), "generated objects"),
        )
    per_image = {f"{name}_{side}_per_image": found.per_image(label) for side, found in (("real", real), ("fake", gen))}
    return {name: value, **per_image}


def objects_per_image(opts: MetricOptions, name: str, num_images: int) -> dict[str, float]:
    """Count the objects per image by category on both sides; sum the differences relative to the real ones.

    0 means that both sides have equally many of everything, 1 that all objects are missing. Every process must call
    this.
    """
    detector = prepare_object_detector(opts)
    real, gen = surveys(opts, detector, num_images)
    pairs = {
        category_suffix(category): (real.per_image(label), gen.per_image(label))
        for label, category in enumerate(detector.categories)
    }
    num_real = sum(pair[0] for pair in pairs.values())
    values = {name: sum(abs(a - b) for a, b in pairs.values()) / num_real if num_real else math.nan}
    if not num_real:
        opts.protocol["reason"] = "the detector finds no objects in the real images"
    for suffix, pair in pairs.items():
        if max(pair) >= MIN_PER_IMAGE:
            values.update({f"{name}_{suffix}_real_per_image": pair[0], f"{name}_{suffix}_fake_per_image": pair[1]})
    return values


def prepare_object_detector(opts: MetricOptions) -> ObjectDetector:
    """Load the object detector and record it in the protocol; rank 0 goes first, so that only one process downloads."""
    with fails_together(opts.num_gpus):
        name = opts.object_detector or default_object_detector(opts.dataset_kwargs)
    with fails_together(opts.num_gpus), rank0_first() if opts.num_gpus > 1 else nullcontext():
        detector = load_object_detector(name, opts.device, opts.detector_folder, opts.progress.verbose)
    opts.protocol.update(object_detector=detector.name, object_detector_sha256=detector.sha256)
    return detector


def surveys(
    opts: MetricOptions, detector: ObjectDetector, num_images: int, label: int | None = None, max_crops: int = 0
) -> tuple[Survey, Survey]:
    """Find the objects in ``num_images`` images per side, and record the settings and the detector's accuracy."""
    found: list[Survey] = []
    for name, open_images, start in (("real images", real_images, 0.0), ("generated images", generated_images, 0.5)):
        with entered_together(open_images(opts, num_images), opts.num_gpus) as images:
            progress = opts.progress.sub(f"objects in {name}", images.num_items, rel_lo=start, rel_hi=start + 0.5)
            sample = CropSample(max_crops, RESOLUTION_PX, opts.seed)
            found.append(survey(opts, detector, images, progress, sample, label))
    real, gen = found
    opts.protocol.update(object_threshold=THRESHOLD)
    opts.protocol.update(object_min_side_px=min_side_px(detector, *opts.protocol["real_shape"][1:]))
    wanted = {detector.categories[label]} if label is not None else set(detector.categories)
    for side, surveyed in (("real", real), ("gen", gen)):
        shown = {category: accuracy for category, accuracy in surveyed.accuracies.items() if category in wanted}
        if shown:
            opts.protocol[f"object_detector_accuracy_{side}"] = {
                category: {"recall": accuracy.recall, "precision": accuracy.precision if accuracy.num_boxes else None}
                for category, accuracy in shown.items()
            }
    return real, gen


def real_crop_features(opts: MetricOptions, features: torch.nn.Module, sample: CropSample, suffix: str) -> np.ndarray:
    """Return the features [n, D] of all crops of real objects, in the order of ``sample.best``; cached if possible.

    Args:
        opts: The real images and both detectors, prepared.
        features: The network.
        sample: The crops.
        suffix: Their category.
    """
    settings = ("object_detector_sha256", "object_threshold", "object_min_side_px", "num_real", "seed")
    path = real_stats_path(
        opts,
        crops={"category": suffix, "margin": MARGIN, "max_crops": sample.max_crops, "num_crops": len(sample.kept)},
        protocol={name: opts.protocol[name] for name in settings},
    )
    stats_kwargs: dict[str, Any] = {"capture_all": True, "max_items": len(sample.kept)}
    stats = cache.load_stats(path, stats_kwargs)
    if stats is None:
        stats = FeatureStats(**stats_kwargs)
        stats.append(crop_features(opts, features, sample.best(len(sample.kept)), "real objects"))
        cache.save_stats(path, stats)
    return stats.get_all()


@torch.no_grad()
def crop_features(opts: MetricOptions, features: torch.nn.Module, crops: list[torch.Tensor], what: str) -> np.ndarray:
    """Return the features [n, D] of crops of any sizes; the crops are resampled to the size that the network expects.

    Args:
        opts: The device, and where progress is shown.
        features: The network.
        crops: Images of one object each, [C, H, W].
        what: Name of the crops in the progress.
    """
    rows: list[np.ndarray] = []
    device = opts.device
    progress = opts.progress.sub(f"features of {what}", len(crops), rel_lo=1)
    for start in range(0, len(crops), _FEATURE_BATCH):
        batch = torch.stack([resized(crop, RESOLUTION_PX) for crop in crops[start : start + _FEATURE_BATCH]])
        parts = batch.to(device).split(DETECTOR_BATCH_CPU if device.type == "cpu" else _FEATURE_BATCH)
        for part in parts:
            rows.append(features(part, return_features=True).cpu().numpy())
            progress.update(sum(map(len, rows)))
    return np.concatenate(rows)
