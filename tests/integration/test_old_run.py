"""What the previous version left behind: its runs go on bit by bit, its snapshots open.

``tests/golden/old_run/make.py`` says what the archives hold and made them, with the program as it was then.
"""

import json
import os
import subprocess
import zipfile

import pytest

import legacy
from tests.golden.old_run.make import HERE, REPRODUCIBLE, tensor_hash
from tests.training_runs import newest_state, reproducible_stats, train_command


def unpack(name, folder):
    with zipfile.ZipFile(HERE / f"{name}.zip") as archive:
        archive.extractall(folder)
    return json.loads((folder / "final.json").read_text())


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.parametrize("name", ["stylegan2", "msconD"])
def test_a_run_goes_on_bit_by_bit(tmp_path, name):
    """Wherever a checkpoint keeps a tensor now: each that the old program ended with is there."""
    expected = unpack(name, tmp_path)
    command = train_command("--continue=run", progress="none")  # the options say where the data is: data.zip
    result = subprocess.run(command, cwd=tmp_path, env={**os.environ, **REPRODUCIBLE}, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    found = {tensor_hash(tensor) for tensor in newest_state(tmp_path / "run").values()}
    assert not [tensor for tensor, digest in expected["tensors"].items() if digest not in found]
    stats = reproducible_stats(tmp_path / "run")
    assert len(stats) == len(expected["stats"])
    for line, expected_line in zip(stats, expected["stats"], strict=True):
        for key, value in expected_line.items():  # float64 sums, whose last digit differs between processors
            assert line[key] == pytest.approx(value, rel=1e-9), key


def test_a_snapshot_opens(tmp_path):
    """The networks, with the tensors of the checkpoint of the same moment."""
    expected = unpack("msconD", tmp_path)["tensors"]
    with open(tmp_path / "snapshot.pkl", "rb") as file:
        networks = legacy.load_network_pkl(file)
    names = ("G", "D", "G_ema", "augment_pipe")
    found = {f"/modules/{name}/{key}": tensor for name in names for key, tensor in networks[name].state_dict().items()}
    assert {name: tensor_hash(tensor) for name, tensor in found.items()} == {
        name: digest for name, digest in expected.items() if name.startswith("/modules/")
    }
