"""Scores of a generator, or of one set of images against another, computed by one process or several."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dnnlib.commands import page
from dnnlib.errors import UserError
from dnnlib.flags import about
from dnnlib.util import EasyDict
from metrics import metric_main
from metrics.datasets import open_dataset
from metrics.generated import check_labels
from metrics.metric_utils import ProgressMonitor
from metrics.results import results_file
from torch_utils.device import choose_device
from torch_utils.distributed import from_rank0, init_world, leave_world
from torch_utils.host_memory import keep_freed_memory
from torch_utils.launch import World, launch, world_from_env
from training.inference.loading import load_network, pretrained_part_of_D
from training.run.options_file import OPTIONS_FILE
from training.run.processes import check_num_processes
from training.run.roles import DATASET
from training.snapshots.settings import check_dataset_settings


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate, the same for every process.

    Attributes:
        metrics: Names of the metrics.
        options: Keywords of `metric_main.calc_metric`.
        device_name: Name of a device, or ``auto``.
        verbose: Show progress.
        run_dir: Run folder to which the results are appended; None writes no files.
        network: Network that the results belong to.
    """

    metrics: list[str]
    options: dict[str, Any]
    device_name: str
    verbose: bool
    run_dir: Path | None
    network: str | None


def network_options(
    network: str, data: str | None, mirror: bool | None, trusted: bool, verbose: bool
) -> dict[str, Any]:
    """Return what `metric_main.calc_metric` must know of a network and its real images.

    Args:
        network: The network, as for `load_network`.
        data: Real images, a folder or zip; None for the training set.
        mirror: Add mirrored real images; None for what the network was trained with.
        trusted: Allow the snapshot to execute code.
        verbose: Announce a download.

    Raises:
        UserError: The network or the real images cannot be used.
    """
    G, training_set_kwargs = load_network(network, trusted, verbose)
    if data is None:
        dataset_kwargs = _training_set(network, training_set_kwargs, trusted)
    else:
        dataset_kwargs = _image_folder(data, xflip=bool((training_set_kwargs or {}).get("xflip")))
    dataset_kwargs.update(resolution=G.img_resolution, use_labels=G.c_dim > 0)
    if mirror is not None:
        dataset_kwargs.xflip = mirror
    if data is not None:
        _check_images("--data", dataset_kwargs)
    if G.c_dim > 0:
        with open_dataset(dataset_kwargs) as dataset:
            check_labels(G.c_dim, dataset)  # before the features of real images are computed
    return {"G": G, "dataset_kwargs": dataset_kwargs, "pretrained_D": pretrained_part_of_D(network, trusted)}


def image_options(data: str, data2: str, mirror: bool | None) -> dict[str, Any]:
    """Return what `metric_main.calc_metric` must know to compare the images ``data2`` with the real ones in ``data``.

    Raises:
        UserError: One of them cannot be opened; that is tried before any features are computed.
    """
    options = {"dataset_kwargs": _image_folder(data, xflip=bool(mirror)), "gen_dataset_kwargs": _image_folder(data2)}
    _check_images("--data", options["dataset_kwargs"])
    _check_images("--data2", options["gen_dataset_kwargs"])
    return options


def run_folder_of(network: str) -> Path | None:
    """Return the run folder that a snapshot is in, or None."""
    path = Path(network).absolute()
    return path.parent if path.with_name(OPTIONS_FILE).is_file() else None


def _training_set(network: str, training_set_kwargs: dict[str, Any] | None, is_trusted: bool) -> EasyDict:
    """Check the training set that a snapshot names: constructing it calls whatever ``class_name`` says."""
    settings = EasyDict(training_set_kwargs or {})
    class_name = settings.get("class_name")
    if not class_name:
        raise UserError(f"{network} does not name its training set: give the real images with --data")
    if class_name == DATASET:
        check_dataset_settings(settings, network)
        _check_path(network, settings.get("path"))
    elif not is_trusted:
        raise UserError(
            f"{network} was trained on a {str(class_name)[:100]!a}, which is not a dataset class of this project: give "
            "the real images with --data, or, if you trust its author, use --trust-pickle"
        )
    return settings


def _check_path(network: str, path: str | None) -> None:
    if path is None:
        raise UserError(f"{network} does not name its training set: give the real images with --data")
    if not Path(path).exists():
        raise UserError(f"the training set of {network}, {path[:1000]!a}, does not exist: give its path with --data")


def _image_folder(path: str, **kwargs: Any) -> EasyDict:
    return EasyDict(class_name=DATASET, path=path, **kwargs)


def _check_images(flag: str, dataset_kwargs: EasyDict) -> None:
    """Say what is wrong with the images of a flag before features are computed."""
    with about(flag), open_dataset(dataset_kwargs):
        pass


def evaluate(evaluation: Evaluation, num_processes: int) -> None:
    """Compute, print and record the metrics, in the processes that torchrun started or in new ones on this machine.

    Raises:
        UserError: A metric cannot be computed here.
    """
    world = world_from_env()
    if world is None:
        check_num_processes(evaluation.device_name, num_processes)
        launch(functools.partial(_run, evaluation), num_processes)
        return
    try:
        _run(evaluation, world, "env://")
    finally:
        leave_world()


def _check_weights(evaluation: Evaluation, world: World) -> None:
    """Find missing weights before the work begins; one process looks for them, because it may download."""
    names = ("detector_folder", "object_detector", "dataset_kwargs")
    arguments = {name: evaluation.options[name] for name in names}
    missing = metric_main.missing_weights(evaluation.metrics, **arguments) if world.rank == 0 else {}
    for metric, reason in from_rank0(missing).items():
        raise UserError(f"{metric}: {reason}")


def _run(evaluation: Evaluation, world: World, init_method: str) -> None:
    device = choose_device(evaluation.device_name, world.world_size, world.local_rank)
    if device.type == "cpu":
        keep_freed_memory()
    init_world(world.rank, world.world_size, device, init_method)
    _check_weights(evaluation, world)
    torch.backends.cudnn.allow_tf32 = False  # published values are float32
    for metric in evaluation.metrics:
        result = metric_main.calc_metric(
            metric,
            num_gpus=world.world_size,
            rank=world.rank,
            device=device,
            progress=ProgressMonitor(verbose=evaluation.verbose),
            **evaluation.options,
        )
        if world.rank == 0:
            metric_main.report_metric(result, evaluation.run_dir, evaluation.network)
    if world.rank == 0:
        _report_files(evaluation)


def _report_files(evaluation: Evaluation) -> None:
    if evaluation.run_dir is None:
        print("Wrote no file, because this is not a snapshot in a run folder: the JSON above is the full record")
    else:
        files = ", ".join(str(results_file(evaluation.run_dir, metric)) for metric in evaluation.metrics)
        print(f"Appended the full record to {files}")
    print(f"Next: compare values only if their protocols agree, see {page('metrics.md')}")
