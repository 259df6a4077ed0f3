"""Snapshots are opened by plain pickle where only the frozen names exist, by the sources that they carry.

The stand-in for the official checkout is generated from the inventory of frozen names: its modules are those of the
inventory and hold these names alone, taken from a copy of ours under another name.
"""

import copy
import importlib.util
import inspect
import json
import pickle
import re
import subprocess
import sys

import pytest
import torch

from legacy import load_network_pkl
from msconD.discriminator import MsConDDiscriminator
from tests.helpers import REPOSITORY
from tests.tiny_snapshot import DATASET, SMALL, generator
from tests.training_runs import everything_random, tiny_options, train_here, write_dataset
from training.augment import MULTIPLIERS, AugmentPipe
from training.networks import Discriminator
from training.snapshots.save import save_snapshot

NUM_CLASSES = 3
RESOLUTION_PX = 32
FROZEN = json.loads((REPOSITORY / "tests/api/public_api.json").read_text())


def outputs(snapshot):
    """What each network of a snapshot makes of the same inputs; this very function runs in the other process too."""
    G, G_ema, D, augment_pipe = (snapshot[key] for key in ("G", "G_ema", "D", "augment_pipe"))
    torch.manual_seed(0)
    z, c, img = torch.randn(4, G.z_dim), torch.eye(4, G.c_dim), torch.randn(4, 3, D.img_resolution, D.img_resolution)
    found = {
        "G": G(z, c),
        "G_ema": G_ema(z, c, truncation_psi=0.7, truncation_cutoff=3, noise_mode="const"),
        "D": D(img, c),
        "augment_pipe": augment_pipe(img),
    }
    # On this device layers run as kernels, if there are any: here, and not where the other process has none.
    images = copy.deepcopy(G_ema).to("meta")(z.to("meta"), c.to("meta"))
    found["shape of images"] = torch.tensor(images.shape)
    if hasattr(D, "scales"):
        scales = D(img, c, all_scales=True)
        found.update({f"logits {h}": logits for h, logits in scales.logits.items()})
        found.update({f"proj {h}": proj for h, proj in scales.proj.items()})
    return found


OTHER_PROCESS = f"""
import copy, pickle, sys
import torch
{inspect.getsource(outputs)}
for package in sys.argv[3:]:
    sys.modules[package] = None  # cannot be imported, wherever this is installed
with open(sys.argv[1], "rb") as file:
    snapshot = pickle.load(file)
torch.save(outputs(snapshot), sys.argv[2])
"""


def write_stand_in(folder, packages):
    """Write a checkout with the frozen names of some packages, and with nothing else that they could find."""
    imports = re.compile(r"^(\s*(?:from|import) )(dnnlib|torch_utils|training)\b", re.MULTILINE)
    for package in packages:
        for source in (REPOSITORY / package).rglob("*.py"):
            hidden = folder / f"hidden_{source.relative_to(REPOSITORY)}"
            hidden.parent.mkdir(parents=True, exist_ok=True)
            hidden.write_text(imports.sub(r"\1hidden_\2", source.read_text()))
    for module, names in FROZEN.items():
        if module.partition(".")[0] in packages:
            path = folder / module.replace(".", "/")
            path = path / "__init__.py" if (REPOSITORY / module.replace(".", "/")).is_dir() else path.with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"from hidden_{module} import {', '.join(names)}\n")


def open_elsewhere(folder, packages):
    """Run the networks of ``folder/snapshot.pkl`` in a process that has the stand-in alone."""
    write_stand_in(folder / "checkout", packages)
    absent = {"training", "msconD", "metrics"} - set(packages)
    command = [sys.executable, "-c", OTHER_PROCESS, folder / "snapshot.pkl", folder / "outputs.pt", *sorted(absent)]
    return subprocess.run(command, cwd=folder / "checkout", capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("D_class", "D_kwargs", "packages"),
    [
        (Discriminator, {}, ["dnnlib", "torch_utils"]),
        # It derives from a class that the official code has too, and imports it from there.
        pytest.param(
            *(MsConDDiscriminator, {"scales": (1, 4, 8), "proj_dim": 4}, ["dnnlib", "torch_utils", "training"]),
        ),
    ],
    ids=["Discriminator", "MsConDDiscriminator"],
)
def test_networks_run_on_the_frozen_names_alone(tmp_path, D_class, D_kwargs, packages):
    G_ema = generator(NUM_CLASSES, img_resolution=RESOLUTION_PX)
    G = copy.deepcopy(G_ema)
    torch.nn.init.normal_(G.mapping.fc0.weight)
    D = D_class(NUM_CLASSES, RESOLUTION_PX, 3, **SMALL, **D_kwargs)
    augment_pipe = AugmentPipe(**dict.fromkeys(MULTIPLIERS, 1))
    augment_pipe.p.fill_(1)
    networks = {"G": G, "D": D.eval(), "G_ema": G_ema, "augment_pipe": augment_pipe}
    save_snapshot(tmp_path / "snapshot.pkl", networks, DATASET)

    result = open_elsewhere(tmp_path, packages)
    assert result.returncode == 0, result.stderr
    theirs = torch.load(tmp_path / "outputs.pt")
    ours = outputs(networks)
    assert theirs.keys() == ours.keys()
    for name, tensor in ours.items():
        assert torch.equal(theirs[name], tensor), name


@pytest.mark.slow
def test_snapshots_of_a_run_in_bfloat16_are_those_of_float32(tmp_path):
    options = tiny_options(write_dataset(tmp_path / "data.zip"), 16, **everything_random(precision="bf16"))
    assert train_here(tmp_path / "run", {**options, "network_snapshot_ticks": 1})
    *_, snapshot = sorted((tmp_path / "run").glob("network-snapshot-*.pkl"))
    snapshot.rename(tmp_path / "snapshot.pkl")
    with open(tmp_path / "snapshot.pkl", "rb") as file:
        ours = outputs(load_network_pkl(file))

    result = open_elsewhere(tmp_path, ["dnnlib", "torch_utils"])
    assert result.returncode == 0, result.stderr
    theirs = torch.load(tmp_path / "outputs.pt")
    assert not [name for name, tensor in ours.items() if not torch.equal(theirs[name], tensor)]


FOREIGN = """
from torch_utils import misc, persistence

@persistence.persistent_class
class Foreign:
    def __setstate__(self, state):
        misc.functools
"""


@pytest.mark.slow
def test_the_stand_in_offers_nothing_else(tmp_path):
    (tmp_path / "foreign.py").write_text(FOREIGN)
    spec = importlib.util.spec_from_file_location("foreign", tmp_path / "foreign.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["foreign"] = module
    try:
        spec.loader.exec_module(module)
        (tmp_path / "snapshot.pkl").write_bytes(pickle.dumps(module.Foreign()))
    finally:
        del sys.modules["foreign"]
    result = open_elsewhere(tmp_path, ["dnnlib", "torch_utils"])
    assert "module 'torch_utils.misc' has no attribute 'functools'" in result.stderr
