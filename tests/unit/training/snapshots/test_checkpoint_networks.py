"""Networks out of checkpoints: those that a snapshot of the same moment holds."""

import json

import pytest
import torch

from dnnlib.errors import UserError
from tests.training_runs import new_run, tiny_options, train_here, write_dataset
from training.run.lookup import newest_networks
from training.run.options_file import OPTIONS_FILE
from training.snapshots.checkpoint_networks import load_checkpoint_networks, open_snapshot
from training.snapshots.load import PARTS


@pytest.fixture(scope="module", params=[("RGB", True), ("L", False)], ids=["labels", "grey"])
def run_dir(request, tmp_path_factory):
    mode, cond = request.param
    folder = tmp_path_factory.mktemp("runs")
    data = write_dataset(folder / "data.zip", mode=mode)
    options = tiny_options(data, 8, cond=cond, aug="fixed", p=0.5)
    train_here(new_run(folder / "00000-data", options), options, network_snapshot_ticks=1)
    return folder / "00000-data"


@pytest.fixture
def state(run_dir):
    return max(run_dir.glob("training-state-*.safetensors"))


def test_the_networks_are_those_of_the_snapshot(run_dir, state):
    snapshot, found = open_snapshot(str(newest_networks(run_dir))), open_snapshot(str(state))
    assert list(found.parts) == list(PARTS)
    for name in ("G", "D", "G_ema", "augment_pipe"):
        expected = snapshot.parts[name]
        assert type(found.parts[name]) is type(expected)
        assert not found.parts[name].training
        tensors = found.parts[name].state_dict()
        assert tensors.keys() == expected.state_dict().keys()
        assert all(torch.equal(tensors[key], tensor) for key, tensor in expected.state_dict().items())
    assert found.parts["training_set_kwargs"] == dict(snapshot.parts["training_set_kwargs"])
    z, c = torch.ones(1, 8), torch.ones(1, found.parts["G_ema"].c_dim)
    images = [each.parts["G_ema"](z, c, noise_mode="const") for each in (snapshot, found)]
    assert torch.equal(*images)


def test_only_what_is_asked_for_is_built(state):
    assert list(load_checkpoint_networks(state, ["G_ema"]).parts) == ["G_ema"]


def edited(run_dir, **changes):
    options = json.loads((run_dir / OPTIONS_FILE).read_text())
    (run_dir / OPTIONS_FILE).write_text(json.dumps({**options, **changes}))
    return options


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"G_kwargs": {"class_name": "os.system"}}, "G_kwargs names the class 'os.system', allowed: "),
        ({"unknown": 1}, "'unknown' is not a setting of this version"),
        ({"training_set_kwargs": {"class_name": "training.dataset.ImageFolderDataset"}}, "does not name the size of"),
    ],
)
def test_options_that_were_edited(run_dir, state, changes, words):
    before = edited(run_dir, **changes)
    try:
        with pytest.raises(UserError, match=words):
            load_checkpoint_networks(state, ["G_ema"])
    finally:
        edited(run_dir, **before)
        if "unknown" in changes:
            (run_dir / OPTIONS_FILE).write_text(json.dumps(before))


def test_options_of_other_networks(run_dir, state):
    G_kwargs = json.loads((run_dir / OPTIONS_FILE).read_text())["G_kwargs"]
    before = edited(run_dir, G_kwargs={**G_kwargs, "z_dim": 9})
    try:
        with pytest.raises(
            UserError, match=r"G_ema: training_options.json does not fit: tensor 'mapping\.\w+\.weight': it"
        ):
            load_checkpoint_networks(state, ["G_ema"])
    finally:
        edited(run_dir, **before)


@pytest.mark.parametrize("without", [dict, lambda: {"augment_kwargs": None}])
def test_options_of_a_run_without_augmentation(run_dir, state, without):
    before = json.loads((run_dir / OPTIONS_FILE).read_text())
    options = {name: value for name, value in before.items() if name != "augment_kwargs"}
    (run_dir / OPTIONS_FILE).write_text(json.dumps({**options, **without()}))
    try:
        with pytest.raises(UserError, match=r"holds augment_pipe, but .* has no augment_kwargs: it is of another run"):
            load_checkpoint_networks(state)
    finally:
        (run_dir / OPTIONS_FILE).write_text(json.dumps(before))


def test_damage(state, tmp_path):
    copy = tmp_path / state.name
    copy.write_bytes(state.read_bytes()[:-1] + b"\xff")
    for name in (OPTIONS_FILE, f"{state.stem}.sha256"):
        (tmp_path / name).write_bytes(state.with_name(name).read_bytes())
    with pytest.raises(UserError, match="does not match its checksum: give another checkpoint, or a snapshot"):
        load_checkpoint_networks(copy)
