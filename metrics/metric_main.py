"""The metrics by name, what a result says, and where it is written."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import dnnlib
from dnnlib.util import UserError
from metrics.detectors import EFFLITE1, INCEPTION, VGG16, find_weights
from metrics.frechet_inception_distance import compute_fid
from metrics.inception_score import compute_is
from metrics.kernel_inception_distance import compute_kid
from metrics.metric_utils import MetricOptions
from metrics.perceptual_path_length import compute_ppl
from metrics.precision_recall import compute_pr


class _Metric(NamedTuple):
    compute: Callable[[MetricOptions], dict[str, float]]
    detector: str | None


_metrics: dict[str, _Metric] = {}


def register_metric(
    compute: Callable[[MetricOptions], dict[str, float]], name: str | None = None, detector: str | None = None
) -> Callable[[MetricOptions], dict[str, float]]:
    """Add a metric; also usable as a decorator.

    Args:
        compute: Returns values by name; every process calls it, and the values of rank 0 count.
        name: Default: that of the function.
        detector: The detector it needs, for `missing_weights`.
    """
    _metrics[name or compute.__name__] = _Metric(compute, detector)
    return compute


def is_valid_metric(metric: str) -> bool:
    """Tell whether there is a metric of this name."""
    return metric in _metrics


def list_valid_metrics() -> list[str]:
    """Return the names of all metrics."""
    return list(_metrics)


def missing_weights(metrics: Iterable[str], detector_folder: str | None = None) -> dict[str, str]:
    """Find out which metrics cannot be computed here; a download is tried, so that it does not happen later.

    Returns:
        For each of those metrics one line that says what is missing and how to get it.
    """
    needed = {metric: _find(metric).detector for metric in metrics}
    reasons: dict[str | None, str] = {}
    for detector in dict.fromkeys(needed.values()):
        try:
            if detector is not None:
                find_weights(detector, detector_folder, verbose=True)
        except UserError as err:
            reasons[detector] = str(err)
    return {metric: reasons[detector] for metric, detector in needed.items() if detector in reasons}


def calc_metric(metric: str, **kwargs: Any) -> dnnlib.EasyDict:
    """Compute a metric; with several processes all of them call this and get the same result.

    Args:
        metric: A name out of `list_valid_metrics`.
        **kwargs: Those of `MetricOptions`.

    Returns:
        ``results`` (values by name), ``metric``, ``total_time`` in seconds, ``total_time_str``, ``num_gpus`` and
        ``protocol``: what the values must be quoted with, that is detector, datasets, numbers of images, seed,
        precision, device and versions.

    Raises:
        UserError: No such metric, missing weights, an unsuitable network or dataset.
    """
    opts = MetricOptions(**kwargs)
    start = time.monotonic()
    results = _compute_together(_find(metric).compute, opts)
    total_sec = time.monotonic() - start
    return dnnlib.EasyDict(
        results=dnnlib.EasyDict({name: float(value) for name, value in results.items()}),
        metric=metric,
        total_time=total_sec,
        total_time_str=dnnlib.util.format_time(total_sec),
        num_gpus=opts.num_gpus,
        protocol=dnnlib.EasyDict(opts.protocol, **_environment(opts.device)),
    )


def report_metric(
    result_dict: dict[str, Any],
    run_dir: str | os.PathLike[str] | None = None,
    snapshot_pkl: str | os.PathLike[str] | None = None,
) -> None:
    """Print a result of `calc_metric` as a line of JSON and append it to ``metric-<name>.jsonl`` of the run folder.

    Args:
        result_dict: The result.
        run_dir: Run folder. Default: print only.
        snapshot_pkl: What was measured; written relative to the run folder if it lies in there.
    """
    if run_dir is not None and snapshot_pkl is not None:
        snapshot_pkl = os.path.relpath(snapshot_pkl, run_dir)
    snapshot = None if snapshot_pkl is None else os.fspath(snapshot_pkl)
    line = json.dumps({**result_dict, "snapshot_pkl": snapshot, "timestamp": time.time()})
    print(line, flush=True)
    if run_dir is not None:
        with open(Path(run_dir, f"metric-{result_dict['metric']}.jsonl"), "a", encoding="utf-8") as file:
            file.write(line + "\n")


def _find(metric: str) -> _Metric:
    if metric not in _metrics:
        raise UserError(f"no metric '{metric}': choose from {', '.join(_metrics)}")
    return _metrics[metric]


def _compute_together(compute: Callable[[MetricOptions], dict[str, float]], opts: MetricOptions) -> dict[str, float]:
    """Return the values of rank 0.

    If a process fails, all of them do, unless others wait for it in an exchange within the metric: then they fail at
    its timeout.
    """
    if opts.num_gpus == 1:
        return compute(opts)
    values: dict[str, float] = {}
    failure: Exception | None = None
    try:
        values = compute(opts)
    except Exception as err:
        failure = err
    outcomes: list[Any] = [None] * opts.num_gpus
    # The type and the text of an error: not every exception survives pickling.
    problem = None if failure is None else (isinstance(failure, UserError), f"{failure}")
    torch.distributed.all_gather_object(outcomes, (values, problem))
    if failure is not None:
        raise failure
    for rank, (_values, theirs) in enumerate(outcomes):
        if theirs is not None:
            is_mistake, text = theirs
            raise UserError(text) if is_mistake else RuntimeError(f"process {rank}: {text}")
    return outcomes[0][0]


def _environment(device: torch.device) -> dict[str, Any]:
    """Describe what besides the method influences the last digits."""
    may_use_tf32 = torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": "tf32" if device.type == "cuda" and may_use_tf32 else "float32",
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }


# The registry

_ALL_REAL = {"max_size": None, "xflip": False}
"""Every real image once, as the ADA paper measures."""

_ALL_REAL_FLIPPED = {"max_size": None}
"""Every real image, with mirrored copies if training has them, as the older papers measure."""


def _register(
    name: str,
    compute: Callable[..., float | tuple[float, ...]],
    detector: str,
    dataset_kwargs: dict[str, Any],
    suffixes: tuple[str, ...] = ("",),
    **kwargs: Any,
) -> None:
    """Register a metric whose values are called ``name`` + suffix."""

    def metric(opts: MetricOptions) -> dict[str, float]:
        opts.dataset_kwargs.update(dataset_kwargs)
        if opts.gen_dataset_kwargs is not None:
            opts.gen_dataset_kwargs.update(dataset_kwargs)
        values = compute(opts, detector_url=detector, **kwargs)
        return dict(zip([name + suffix for suffix in suffixes], np.atleast_1d(values).tolist(), strict=True))

    register_metric(metric, name, detector)


_PR = ("_precision", "_recall")
_IS = ("_mean", "_std")

# The ADA paper (arXiv:2006.06676).
_register("fid50k_full", compute_fid, INCEPTION, _ALL_REAL, max_real=None, num_gen=50_000)
_register("kid50k_full", compute_kid, INCEPTION, _ALL_REAL, max_real=1_000_000, num_gen=50_000)
_register("pr50k3_full", compute_pr, VGG16, _ALL_REAL, _PR, max_real=200_000, num_gen=50_000)
_register("ppl2_wend", compute_ppl, VGG16, {}, num_samples=50_000, epsilon=1e-4, space="w", sampling="end", crop=False)
_register("is50k", compute_is, INCEPTION, {}, _IS, num_gen=50_000)

# The papers before it.
_register("fid50k", compute_fid, INCEPTION, _ALL_REAL_FLIPPED, max_real=50_000, num_gen=50_000)
_register("kid50k", compute_kid, INCEPTION, _ALL_REAL_FLIPPED, max_real=50_000, num_gen=50_000)
_register("pr50k3", compute_pr, VGG16, _ALL_REAL_FLIPPED, _PR, max_real=50_000, num_gen=50_000)
for _space, _sampling in (("z", "full"), ("w", "full"), ("z", "end"), ("w", "end")):
    _register(
        f"ppl_{_space}{_sampling}",
        compute_ppl,
        VGG16,
        {},
        num_samples=50_000,
        epsilon=1e-4,
        space=_space,
        sampling=_sampling,
        crop=True,
    )

# With a detector that comes with a package. The bias of a small set is large: equal numbers, of images drawn at random.
for _name, _compute, _num, _suffixes in (
    ("fd1k_efflite1", compute_fid, 1_000, ("",)),
    ("fd5k_efflite1", compute_fid, 5_000, ("",)),
    ("fd50k_efflite1", compute_fid, 50_000, ("",)),
    ("kd5k_efflite1", compute_kid, 5_000, ("",)),
    ("pr5k_efflite1", compute_pr, 5_000, _PR),
):
    _subset = {"max_size": _num, "xflip": False}
    _register(_name, _compute, EFFLITE1, _subset, _suffixes, max_real=_num, num_gen=_num)
