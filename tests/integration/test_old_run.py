"""What an earlier version left behind: its runs go on as it would have gone on, its snapshots open.

``tests/golden/old_run/make.py`` says what the archives hold and made them, with the program as it was then.
"""

import json
import os
import subprocess
import zipfile

import pytest
import torch
from safetensors.torch import load_file

import legacy
from tests.golden.old_run.make import HERE, REPRODUCIBLE, tensor_hash
from tests.training_runs import complaints, newest_state, train_command


def unpack(name, folder):
    with zipfile.ZipFile(HERE / f"{name}.zip") as archive:
        archive.extractall(folder)
    return json.loads((folder / "final.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stylegan2", "msconD"])
def test_a_run_goes_on_as_it_would_have(tmp_path, name):
    """With the same random numbers and images, and the same weights but for the order of sums in new kernels.

    16 iterations after the checkpoint the largest difference was 4.6e-5 of the largest value of its tensor.
    """
    unpack(name, tmp_path)
    expected = load_file(tmp_path / "final.safetensors")
    command = train_command("--continue=run", progress="none")  # the options say where the data is: data.zip
    result = subprocess.run(command, cwd=tmp_path, env={**os.environ, **REPRODUCIBLE}, capture_output=True, text=True)
    assert (result.returncode, complaints(result.stderr)) == (0, [])
    found = newest_state(tmp_path / "run")
    for key, tensor in expected.items():
        if tensor.is_floating_point():
            tolerance = 2e-4 * float(tensor.abs().max())
            assert torch.allclose(found[key], tensor, rtol=0, atol=tolerance), key
        else:
            assert torch.equal(found[key], tensor), key


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
