"""The table of the metrics: what each computes, in which features, of which images (docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from metrics.detectors import DINOV2, EFFLITE1, INCEPTION, NANODET, VGG16
from metrics.frechet_inception_distance import compute_fid
from metrics.inception_score import compute_is
from metrics.kernel_inception_distance import compute_kid
from metrics.metric_utils import MetricOptions
from metrics.objects.object_metrics import frechet, object_distance, objects_per_image
from metrics.perceptual_path_length import compute_ppl
from metrics.precision_recall import compute_pr

Images = Mapping[str, Any]
"""Keywords of a dataset, which say which of its images are compared."""

ALL_REAL: Images = {"max_size": None, "xflip": False}
"""Every real image once, as in the ADA paper."""

ALL_REAL_FLIPPED: Images = {"max_size": None}
"""Every real image, and its mirror image if training used it, as in the older papers."""


def random_subset(num_images: int) -> Images:
    """Return the same images whatever the seed of the training, which chooses its own subset by that seed."""
    return {"max_size": num_images, "random_seed": 0, "xflip": False}


def choose(opts: MetricOptions, images: Images) -> None:
    """Set which images of the real dataset, and of one that replaces the generated images, are compared."""
    opts.dataset_kwargs.update(images)
    if opts.gen_dataset_kwargs is not None:
        opts.gen_dataset_kwargs.update(images)


@dataclass(frozen=True)
class FeatureMetric:
    """A metric of features of whole images; calling it with options returns its values by name."""

    name: str
    compute: Callable[..., float | tuple[float, ...]]
    """Takes options, ``detector_url`` and the settings."""
    detector: str
    """Feature network."""
    images: Images
    settings: Mapping[str, Any]
    suffixes: tuple[str, ...] = ("",)
    """What follows the name of the metric in the names of its values."""

    def __call__(self, opts: MetricOptions) -> dict[str, float]:
        """Compute the values; every process must call this, and those of rank 0 count."""
        choose(opts, self.images)
        values = np.atleast_1d(self.compute(opts, detector_url=self.detector, **self.settings)).tolist()
        return dict(zip([self.name + suffix for suffix in self.suffixes], values, strict=True))


@dataclass(frozen=True)
class ObjectMetric:
    """A metric of the objects in equally many real and generated images; calling it returns its values by name."""

    name: str
    compute: Callable[..., dict[str, float]]
    """Takes options, ``name``, ``num_images`` and the settings."""
    num_images: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, opts: MetricOptions) -> dict[str, float]:
        """Compute the values; every process must call this, and those of rank 0 count."""
        choose(opts, random_subset(self.num_images))
        return self.compute(opts, name=self.name, num_images=self.num_images, **self.settings)

    def of(self, category: str) -> ObjectMetric:
        """Return the metric of one category, given as `metrics.objects.object_metrics.category_suffix` writes it."""
        return replace(self, name=f"{self.name}_{category}", settings={**self.settings, "suffix": category})


def _of_equal_sets(
    name: str, compute: Callable[..., Any], detector: str, num: int, suffixes: tuple[str, ...] = ("",)
) -> FeatureMetric:
    """Compare as many generated images as real ones, which are a random subset: small sets have a large bias."""
    settings = {"max_real": num, "num_gen": num}
    return FeatureMetric(name, compute, detector, random_subset(num), settings, suffixes)


_50K = {"max_real": 50_000, "num_gen": 50_000}
_PATHS = {"num_samples": 50_000, "epsilon": 1e-4}
_PR = ("_precision", "_recall")

FEATURE_METRICS = (
    # The ADA paper (arXiv:2006.06676).
    FeatureMetric("fid50k_full", compute_fid, INCEPTION, ALL_REAL, {"max_real": None, "num_gen": 50_000}),
    FeatureMetric("kid50k_full", compute_kid, INCEPTION, ALL_REAL, {"max_real": 1_000_000, "num_gen": 50_000}),
    FeatureMetric("pr50k3_full", compute_pr, VGG16, ALL_REAL, {"max_real": 200_000, "num_gen": 50_000}, _PR),
    FeatureMetric("ppl2_wend", compute_ppl, VGG16, {}, {**_PATHS, "space": "w", "sampling": "end", "crop": False}),
    FeatureMetric("is50k", compute_is, INCEPTION, {}, {"num_gen": 50_000}, ("_mean", "_std")),
    # The StyleGAN and StyleGAN2 papers (arXiv:1812.04948, arXiv:1912.04958).
    FeatureMetric("fid50k", compute_fid, INCEPTION, ALL_REAL_FLIPPED, _50K),
    FeatureMetric("kid50k", compute_kid, INCEPTION, ALL_REAL_FLIPPED, _50K),
    FeatureMetric("pr50k3", compute_pr, VGG16, ALL_REAL_FLIPPED, _50K, _PR),
    FeatureMetric("ppl_zfull", compute_ppl, VGG16, {}, {**_PATHS, "space": "z", "sampling": "full", "crop": True}),
    FeatureMetric("ppl_wfull", compute_ppl, VGG16, {}, {**_PATHS, "space": "w", "sampling": "full", "crop": True}),
    FeatureMetric("ppl_zend", compute_ppl, VGG16, {}, {**_PATHS, "space": "z", "sampling": "end", "crop": True}),
    FeatureMetric("ppl_wend", compute_ppl, VGG16, {}, {**_PATHS, "space": "w", "sampling": "end", "crop": True}),
    # With other detectors.
    _of_equal_sets("fd1k_efflite1", compute_fid, EFFLITE1, 1_000),
    _of_equal_sets("fd5k_efflite1", compute_fid, EFFLITE1, 5_000),
    _of_equal_sets("fd50k_efflite1", compute_fid, EFFLITE1, 50_000),
    _of_equal_sets("kd5k_efflite1", compute_kid, EFFLITE1, 5_000),
    _of_equal_sets("pr5k_efflite1", compute_pr, EFFLITE1, 5_000, _PR),
    _of_equal_sets("fd5k_nanodet", compute_fid, NANODET, 5_000),
    _of_equal_sets("fd50k_nanodet", compute_fid, NANODET, 50_000),
    _of_equal_sets("fd50k_dinov2", compute_fid, DINOV2, 50_000),
)

OBJECT_METRICS = (ObjectMetric("objects2k", objects_per_image, 2_000),)

CATEGORY_METRICS = (
    # Where a distance has a bias that depends on the number of crops, that number is fixed.
    ObjectMetric("okd2k", object_distance, 2_000, {"max_crops": 2_000}),
    ObjectMetric("ofd5k", object_distance, 5_000, {"max_crops": 5_000, "min_crops": 5_000, "distance": frechet}),
)
"""Metrics of one category of objects each: ``okd2k_car`` is that of the cars."""
