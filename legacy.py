"""Open snapshots of every age, and convert them to the current format: ``python legacy.py --help``."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import click

from dnnlib.atomic import write_atomic
from dnnlib.click_command import Command
from dnnlib.console import errors_in_one_line
from dnnlib.errors import UserError
from dnnlib.outputs import check_replaceable_file, keep_inputs
from dnnlib.urls import open_url
from training.run.lookup import LATEST, find_network, is_checkpoint, require_network
from training.snapshots.checkpoint_networks import load_checkpoint_networks
from training.snapshots.load import load_network_pkl
from training.snapshots.portable import CONFIG

__all__ = ["load_network_pkl"]


SOURCE_HELP = "Pickle to read (path or https URL), run folder, or 'latest' for the latest run in runs/."


@click.command(cls=Command)
@click.option("--source", help=SOURCE_HELP, metavar="PKL|RUN|latest", required=True)
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
@errors_in_one_line()
def convert_network_pickle(source: str, dest: str, force_fp16: bool, trust_pickle: bool) -> None:
    """Convert an older network pickle to the current format.

    Reads snapshots of this project and of StyleGAN2-ADA (PyTorch), StyleGAN2(-ADA) pickles from TensorFlow, and
    checkpoints of this project, which become snapshots.

    Example: python legacy.py --source=stylegan2-cat-config-f.pkl --dest=cat.pkl
    """
    require_network(source, "--source", names=[LATEST])
    source = find_network(source, "--source")
    keep_inputs([Path(dest)], source=source)
    if not Path(dest).parent.is_dir():
        raise UserError(f"--dest={dest}: there is no folder {Path(dest).parent}")
    check_replaceable_file(Path(dest))
    data = _read(source, force_fp16, trust_pickle)
    write_atomic(dest, lambda file: pickle.dump(data, file))
    click.echo(f"Wrote {dest}")


def _read(source: str, force_fp16: bool, trust_pickle: bool) -> dict[str, Any]:
    if is_checkpoint(source):
        if force_fp16:
            raise UserError(
                f"--force-fp16 is for pickles; {source} is a checkpoint: convert the result of this command"
            )
        return load_checkpoint_networks(Path(source)).parts
    if Path(source).is_dir():
        is_export = (Path(source) / CONFIG).is_file()
        what = "an exported generator, without the G and D of a snapshot" if is_export else "a folder without a run"
        raise UserError(f"--source: {source} is {what}; give a snapshot (.pkl) or a run folder")
    with open_url(source) as f:
        return load_network_pkl(f, force_fp16=force_fp16, trusted=trust_pickle)


if __name__ == "__main__":
    convert_network_pickle()
