"""What an object detector finds in a set of images: objects per image, a sample of crops, its own accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from metrics.images import ImageSet
from metrics.joint_failure import in_step
from metrics.objects.accuracy import Accuracy, TrueObjects, accuracy
from metrics.objects.crops import CropSample, countable, min_side_px
from metrics.objects.protocol import Detections, ObjectDetector
from metrics.options import MetricOptions
from metrics.progress import ProgressMonitor
from torch_utils import distributed


@dataclass
class Survey:
    """What was found in a set of images, in all processes together.

    Attributes:
        num_images: Number of images.
        num_found: Number of objects per category of the detector.
        sample: Crops of one category; empty if none was asked for.
        accuracies: By category, as far as the true objects are known; {} otherwise.
    """

    num_images: int
    num_found: np.ndarray
    sample: CropSample
    accuracies: dict[str, Accuracy]

    def per_image(self, label: int) -> float:
        """Return how many objects of a category there are per image."""
        return float(self.num_found[label]) / self.num_images


def survey(
    opts: MetricOptions,
    detector: ObjectDetector,
    images: ImageSet,
    progress: ProgressMonitor,
    sample: CropSample,
    label: int | None = None,
) -> Survey:
    """Survey all images; every process must call this, and all of them get the same result.

    Args:
        opts: The processes.
        detector: Finds the objects.
        images: The images.
        progress: Progress of this.
        sample: Collects crops of the category ``label``; it should be empty.
        label: None collects no crops.
    """
    seen: dict[int, np.ndarray] = {}
    pairs: list[tuple[Detections, TrueObjects]] = []
    min_px = 0.0
    for indices, batch in in_step(images.batches, opts.num_gpus):
        min_px = min_side_px(detector, *batch.shape[2:])
        for index, image, found in zip(indices, batch, detector.detect(batch), strict=True):
            if index in seen:
                continue
            kept = countable(found, min_px)
            seen[index] = np.bincount(kept.labels.numpy(), minlength=len(detector.categories))
            if label is not None:
                sample.add(index, image, kept.boxes[kept.labels == label])
            truth = true_objects(images.dataset, index, detector.categories)
            if truth is not None:
                pairs.append((kept, truth))
        progress.update(min(len(seen) * opts.num_gpus, images.num_items))
    accuracies = _by_category(accuracy(pairs, len(detector.categories), min_px), detector) if pairs else {}
    return _joined(
        distributed.gather((seen, sample, accuracies)) if opts.num_gpus > 1 else [(seen, sample, accuracies)]
    )


def _joined(parts: list[tuple[dict[int, np.ndarray], CropSample, dict[str, Accuracy]]]) -> Survey:
    """Join what the processes found; their images may overlap by a few."""
    seen: dict[int, np.ndarray] = {}
    totals: dict[str, Accuracy] = {}
    for counts, _sample, accuracies in parts:
        seen.update(counts)
        for category, counted in accuracies.items():
            totals[category] = Accuracy(*map(sum, zip(totals.get(category, Accuracy()), counted, strict=True)))
    sample = parts[0][1]
    sample.merge([other for _seen, other, _accuracies in parts[1:]])
    return Survey(len(seen), np.sum(list(seen.values()), axis=0), sample, totals)


def _by_category(accuracies: list[Accuracy], detector: ObjectDetector) -> dict[str, Accuracy]:
    """Leave out the categories without true objects: their names may differ from those of the detector."""
    return {
        category: counted for category, counted in zip(detector.categories, accuracies, strict=True) if counted.num_true
    }


def true_objects(dataset: Any, index: int, categories: tuple[str, ...]) -> TrueObjects | None:
    """Return the true objects of an image in the categories of a detector; None where they are not known."""
    get_objects = getattr(dataset, "get_objects", None)
    objects: list[Mapping[str, Any]] | None = None if get_objects is None else get_objects(index)
    if objects is None:
        return None
    known = [each for each in objects if each["category"] in categories]
    boxes = torch.tensor([each["box"] for each in known], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([categories.index(each["category"]) for each in known], dtype=torch.int64)
    return TrueObjects(boxes, labels)
