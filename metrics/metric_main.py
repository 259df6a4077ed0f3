"""The metrics by name: what they need, and their values."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch

from dnnlib.errors import UserError
from dnnlib.formatting import format_time
from dnnlib.util import EasyDict
from metrics.catalog import CATEGORY_METRICS, FEATURE_METRICS, OBJECT_METRICS, ObjectMetric
from metrics.detectors import EFFLITE1, trained_on
from metrics.joint_failure import result_of_rank0
from metrics.metric_utils import MetricOptions
from metrics.objects.object_metrics import find_category
from metrics.objects.protocol import ObjectDetector
from metrics.objects.registry import default_object_detector, load_object_detector
from metrics.results import report_metric
from metrics.weights import find_weights
from torch_utils.out_of_memory import out_of_memory_means

__all__ = ["calc_metric", "is_valid_metric", "list_valid_metrics", "register_metric", "report_metric"]


class _Metric(NamedTuple):
    compute: Callable[[MetricOptions], dict[str, float]]
    detector: str | None
    needs_objects: bool = False
    category: str | None = None
    """Category of the objects, as `category_suffix` writes it."""


_metrics: dict[str, _Metric] = {
    **{metric.name: _Metric(metric, metric.detector) for metric in FEATURE_METRICS},
    **{metric.name: _Metric(metric, None, needs_objects=True) for metric in OBJECT_METRICS},
}

_families: dict[str, ObjectMetric] = {metric.name: metric for metric in CATEGORY_METRICS}
"""Metrics of one category of objects each, by what stands before the category in their names."""

CATEGORY = "CATEGORY"
"""Stands for any category in `list_valid_metrics`."""


def register_metric(
    compute: Callable[[MetricOptions], dict[str, float]], name: str | None = None, detector: str | None = None
) -> Callable[[MetricOptions], dict[str, float]]:
    """Add a metric; also works as a decorator.

    Args:
        compute: Returns values by name. Every process calls it; the values of rank 0 are used.
        name: Default: the name of the function.
        detector: The detector that it needs, for `missing_weights`.
    """
    _metrics[name or compute.__name__] = _Metric(compute, detector)
    return compute


def is_valid_metric(metric: str) -> bool:
    """Return whether there is a metric of this name; which categories there are depends on the object detector."""
    return metric in _metrics or _of_category(metric) is not None


def require_metric(metric: str) -> None:
    """Make sure that there is a metric of this name.

    Raises:
        UserError: There is none; the message lists all that exist.
    """
    _find(metric)


def list_valid_metrics() -> list[str]:
    """Return the names of all metrics; CATEGORY in a name stands for a category of the object detector."""
    return [*_metrics, *(f"{family}_{CATEGORY}" for family in _families)]


def missing_weights(
    metrics: Iterable[str],
    detector_folder: str | None = None,
    object_detector: str | None = None,
    dataset_kwargs: dict[str, Any] | None = None,
) -> dict[str, str]:
    """Find the metrics that cannot be computed here: weights are missing, or no detector knows their category.

    Weights are downloaded now if possible, not in the middle of training.

    Args:
        metrics: Names out of `list_valid_metrics`.
        detector_folder: Folder of the user that is searched first for detector weights.
        object_detector: The object detector. Default: what suits the real images.
        dataset_kwargs: The real images; without them only an ``object_detector`` that is named is looked for.

    Returns:
        For each of these metrics one line that says what is missing and what to do.
    """
    wanted = {metric: _find(metric) for metric in metrics}
    missing = _missing_features(wanted, detector_folder)
    categories = {
        name: metric.category for name, metric in wanted.items() if metric.needs_objects and name not in missing
    }
    if not categories or not (object_detector or dataset_kwargs):
        return missing
    try:
        detector_name = object_detector or default_object_detector(dataset_kwargs or {})
        detector = load_object_detector(detector_name, folder=detector_folder, verbose=True)
    except UserError as err:
        return {**missing, **dict.fromkeys(categories, str(err))}
    return {**missing, **_unknown_categories(detector, categories)}


def _missing_features(metrics: dict[str, _Metric], folder: str | None) -> dict[str, str]:
    """Return the metrics whose feature network has no weights here, with a line for each."""
    reasons: dict[str | None, str] = {}
    for detector in dict.fromkeys(metric.detector for metric in metrics.values()):
        try:
            if detector is not None:
                find_weights(detector, folder, verbose=True)
        except UserError as err:
            reasons[detector] = str(err)
    return {name: reasons[metric.detector] for name, metric in metrics.items() if metric.detector in reasons}


def _unknown_categories(detector: ObjectDetector, categories: dict[str, str | None]) -> dict[str, str]:
    """Return the metrics whose category the detector does not know, with a line for each."""
    reasons = {}
    for metric, category in categories.items():
        try:
            if category is not None:
                find_category(detector, category)
        except UserError as err:
            reasons[metric] = str(err)
    return reasons


def calc_metric(metric: str, **kwargs: Any) -> EasyDict:
    """Compute a metric; with several processes all of them call this and get the same result.

    Args:
        metric: A name out of `list_valid_metrics`.
        **kwargs: Arguments of `MetricOptions`.

    Returns:
        ``results`` (values by name), ``metric``, ``total_time`` in seconds, ``total_time_str``, ``num_gpus`` and
        ``protocol``, the conditions of the measurement: detector, datasets, numbers of images, seed, precision, device
        and versions (docs/metrics.md).

    Raises:
        UserError: There is no such metric, weights are missing, or the network or dataset is unsuitable.
    """
    opts = MetricOptions(**kwargs)
    start = time.monotonic()
    compute = out_of_memory_means("use a smaller --batch for the metrics")(_find(metric).compute)
    results = result_of_rank0(functools.partial(compute, opts), opts.num_gpus)
    _record_discriminator(opts)
    total_sec = time.monotonic() - start
    return EasyDict(
        results=EasyDict({name: float(value) for name, value in results.items()}),
        metric=metric,
        total_time=total_sec,
        total_time_str=format_time(total_sec),
        num_gpus=opts.num_gpus,
        protocol=EasyDict(opts.protocol, **_environment(opts)),
    )


def _find(metric: str) -> _Metric:
    found = _metrics.get(metric) or _of_category(metric)
    if found is None:
        raise UserError(f"there is no metric {metric[:100]!a}; choose from {', '.join(list_valid_metrics())}")
    return found


def _of_category(metric: str) -> _Metric | None:
    """Return a metric of one category, such as ``okd2k_car``."""
    family, _, category = metric.partition("_")
    if family not in _families or not re.fullmatch("[A-Za-z_]{1,50}", category):
        return None
    return _Metric(_families[family].of(category), EFFLITE1, needs_objects=True, category=category)


def _record_discriminator(opts: MetricOptions) -> None:
    """Record whether D uses features of a network pretrained on the same images as the detector (arXiv:2203.06026)."""
    if opts.G is not None:
        images = trained_on(opts.protocol.get("detector", ""))
        is_related = bool(images) and images in opts.pretrained_D
        opts.protocol.update(pretrained_D=opts.pretrained_D, related_pretrained_D=is_related)


def _environment(opts: MetricOptions) -> dict[str, Any]:
    """Describe device, precision and library versions, which affect the last digits of a value."""
    on_gpu = opts.device.type == "cuda"
    may_use_tf32 = torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
    precision = "tf32" if on_gpu and may_use_tf32 else "float32"
    return {
        "device": torch.cuda.get_device_name(opts.device) if on_gpu else opts.device.type,
        "precision": f"float16+{precision}" if opts.protocol.get("num_fp16_res") else precision,
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
