"""Stand-in for the official train.py, for test_attach.py: few flags, tiny networks, and imports that have aged."""

import json
import tempfile
from distutils.util import strtobool  # gone since Python 3.12
from pathlib import Path

import click
import torch

from training import training_loop

BATCH, REF_GPUS, NUM_IMAGES = 8, 8, 24


def run_rank(rank, options, init_file):
    num_gpus = options["num_gpus"]
    if num_gpus > 1:
        torch.distributed.init_process_group("gloo", f"file://{init_file}", rank=rank, world_size=num_gpus)
    training_loop.training_loop(rank=rank, **options)
    if num_gpus > 1:
        torch.distributed.destroy_process_group()


@click.command()
@click.option("--outdir", type=Path, required=True)
@click.option("--data", required=True)
@click.option("--gpus", type=int, default=1)
@click.option("--mirror", type=strtobool, default="no")
@click.option("--cfg", type=click.Choice(["auto", "stylegan2", "paper256", "paper512", "paper1024", "cifar"]))
def main(outdir, data, gpus, mirror, cfg):
    capacity = {"channel_base": 64, "channel_max": 16, "num_fp16_res": 0, "conv_clamp": None}
    mapping_kwargs = {"num_layers": 1}
    options = {
        "num_gpus": gpus,
        "batch_size": BATCH,
        "batch_gpu": BATCH // REF_GPUS,
        "total_kimg": NUM_IMAGES / 1000,
        "training_set_kwargs": {
            "class_name": "training.dataset.ImageFolderDataset",
            "path": data,
            "xflip": mirror == 1,
        },
        "data_loader_kwargs": {"num_workers": 1},
        "G_kwargs": {
            "class_name": "training.networks.Generator",
            "z_dim": 8,
            "w_dim": 8,
            "mapping_kwargs": mapping_kwargs,
            "synthesis_kwargs": capacity,
        },
        "D_kwargs": {
            "class_name": "training.networks.Discriminator",
            "epilogue_kwargs": {"mbstd_group_size": 4},
            **capacity,
        },
        "opt_kwargs": {"class_name": "torch.optim.Adam", "lr": 0.002, "betas": [0.0, 0.99]},
        "loss_kwargs": {"class_name": "training.loss.StyleGAN2Loss", "r1_gamma": 1},
        "augment_kwargs": {"class_name": "training.augment.AugmentPipe", "xflip": 1, "scale": 1},
    }
    run_dir = outdir / f"{len(list(outdir.iterdir())):05d}-{Path(data).stem}-{cfg}"
    run_dir.mkdir()
    (run_dir / "training_options.json").write_text(json.dumps(options))
    options["run_dir"] = str(run_dir)
    with tempfile.TemporaryDirectory() as folder:
        arguments = (options, Path(folder, "init"))
        if gpus == 1:
            run_rank(0, *arguments)
        else:
            torch.multiprocessing.spawn(run_rank, args=arguments, nprocs=gpus)


if __name__ == "__main__":
    main()
