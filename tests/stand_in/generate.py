"""Stand-in for the official generate.py: opens a snapshot by executing the source in it."""

import pickle

import click
import numpy as np
import PIL.Image
import torch


@click.command()
@click.option("--network", required=True)
@click.option("--outdir", required=True)
def main(network, outdir):
    with open(network, "rb") as f:
        snapshot = pickle.load(f)
    G, D = snapshot["G_ema"], snapshot["D"]
    z = torch.from_numpy(np.random.RandomState(0).randn(1, G.z_dim)).to(torch.float32)
    img = G(z, None, noise_mode="const")
    print(f"{type(D).__name__} {list(D(img, None).shape)}")
    pixels = (img[0].permute(1, 2, 0) * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    PIL.Image.fromarray(pixels.numpy()).save(f"{outdir}/seed0000.png")


if __name__ == "__main__":
    main()
