"""What can be found wrong with the metrics of a comparison before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dnnlib.errors import UserError
from dnnlib.flags import about
from metrics import metric_main
from metrics.objects.registry import require_object_detector
from training.run.dataset_info import inspect_dataset
from training.run.roles import DATASET


def check_metrics(metrics: Sequence[str], score_flags: Mapping[str, Any], data: str) -> None:
    """Refuse metrics that do not exist, or that would fail after hours of training.

    Args:
        metrics: Names of the metrics.
        score_flags: Values of the flags of ``calc_metrics.py`` by name.
        data: The training images.

    Raises:
        UserError: A metric cannot be computed here, or not with these flags.
    """
    if score_flags["data"] is not None:
        _check_real_images(score_flags["data"], data)
    if score_flags["object_detector"] is not None:
        require_object_detector(score_flags["object_detector"])
    for metric in metrics:
        metric_main.require_metric(metric)
    with about("--score-extra" if score_flags["data"] else "--data"):
        missing = metric_main.missing_weights(
            metrics,
            detector_folder=score_flags["detectors"],
            object_detector=score_flags["object_detector"],
            dataset_kwargs={"class_name": DATASET, "path": score_flags["data"] or data},
        )
    for metric, reason in missing.items():
        raise UserError(f"{metric}: {reason}")


def _check_real_images(path: str, training_set: str) -> None:
    """Check the images that generated ones are compared with.

    Raises:
        UserError: They are not a dataset, or not of the size of the training images.
    """
    with about("--score-extra"):
        found = inspect_dataset(path, use_labels=False).resolution
    with about("--data"):
        wanted = inspect_dataset(training_set, use_labels=False).resolution
    if found != wanted:
        raise UserError(f"--score-extra: {path} has images of {found} px, but training images have {wanted} px")
