"""Open snapshots of every age, and convert them to the current format: ``python legacy.py --help``."""

from __future__ import annotations

import pickle
from pathlib import Path

import click

from dnnlib.atomic import write_atomic
from dnnlib.util import UserError, open_url
from training.snapshots.load import load_network_pkl

__all__ = ["load_network_pkl"]


@click.command()
@click.option("--source", help="Pickle to read: path or https URL.", metavar="PKL", required=True)
@click.option("--dest", help="Snapshot to write.", metavar="PKL", required=True, type=click.Path(dir_okay=False))
@click.option(
    "--force-fp16",
    help="Half precision at the four highest resolutions.",
    metavar="[BOOL]",
    type=bool,
    is_flag=False,
    flag_value=True,
    default=False,
)
@click.option("--trust-pickle", help="Let the file execute code: only if you trust its author.", is_flag=True)
def convert_network_pickle(source: str, dest: str, force_fp16: bool, trust_pickle: bool) -> None:
    """Convert an older network pickle to the current format.

    Reads snapshots of this project and of StyleGAN2-ADA (PyTorch), and StyleGAN2(-ADA) pickles from TensorFlow.

    Example: python legacy.py --source=stylegan2-cat-config-f.pkl --dest=cat.pkl
    """
    try:
        if not Path(dest).parent.is_dir():
            raise UserError(f"--dest={dest}: there is no folder {Path(dest).parent}")
        with open_url(source) as f:
            data = load_network_pkl(f, force_fp16=force_fp16, trusted=trust_pickle)
        write_atomic(dest, lambda file: pickle.dump(data, file))
    except (UserError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Wrote {dest}")


if __name__ == "__main__":
    convert_network_pickle()
