"""Options of the metrics."""

from __future__ import annotations

from typing import Any

import torch

from dnnlib.util import EasyDict
from metrics.progress import ProgressMonitor


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
        self.G_kwargs = EasyDict(G_kwargs or {})
        self.dataset_kwargs = EasyDict(dataset_kwargs or {})
        self.num_gpus = num_gpus
        self.rank = rank
        default_device = f"cuda:{rank}" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device or default_device)
        self.progress = progress.sub() if progress is not None and rank == 0 else ProgressMonitor()
        self.cache = cache
        self.seed = seed
        self.detector_folder = detector_folder
        self.gen_dataset_kwargs = None if gen_dataset_kwargs is None else EasyDict(gen_dataset_kwargs)
        self.batch_size = batch_size
        self.object_detector = object_detector
        self.pretrained_D = pretrained_D
        self.protocol: dict[str, Any] = {"seed": seed}
