import copy
import pickle

import pytest
import torch

import legacy
from training.augment import AugmentPipe
from training.networks import Discriminator, Generator
from training.snapshots.save import save_snapshot

SIZES = {"c_dim": 2, "img_resolution": 8, "img_channels": 1}
WIDTHS = {"channel_base": 64, "channel_max": 8}
DATASET = {"class_name": "training.dataset.ImageFolderDataset", "path": "x"}


def networks(augment_pipe=True):
    """As they are in training."""
    G = Generator(z_dim=4, w_dim=4, mapping_kwargs={"num_layers": 1}, synthesis_kwargs=WIDTHS, **SIZES)
    D = Discriminator(**WIDTHS, **SIZES)
    pipe = AugmentPipe(xflip=1) if augment_pipe else None
    return {"G": G, "D": D, "augment_pipe": pipe, "G_ema": copy.deepcopy(G).eval().requires_grad_(False)}


def load(path):
    with open(path, "rb") as file:
        return legacy.load_network_pkl(file)


def test_every_tool_opens_it(tmp_path):
    modules = networks()
    save_snapshot(tmp_path / "a.pkl", modules, DATASET)
    data = load(tmp_path / "a.pkl")
    assert set(data) == {"G", "D", "G_ema", "augment_pipe", "training_set_kwargs"}
    assert data["training_set_kwargs"] == DATASET
    for name, module in modules.items():
        assert type(data[name]) is type(module)
        assert not data[name].training
        tensors = data[name].state_dict()
        assert all(torch.equal(tensors[key], value) for key, value in module.state_dict().items())
        assert not any(parameter.requires_grad for parameter in data[name].parameters())
    z, c = torch.randn(2, 4), torch.eye(2)
    assert torch.equal(data["G_ema"](z, c, noise_mode="const"), modules["G_ema"](z, c, noise_mode="const"))


def test_without_augmentation(tmp_path):
    save_snapshot(tmp_path / "a.pkl", networks(augment_pipe=False), DATASET)
    assert load(tmp_path / "a.pkl")["augment_pipe"] is None


def test_training_goes_on_with_the_same_modules(tmp_path):
    modules = networks()
    save_snapshot(tmp_path / "a.pkl", modules, DATASET)
    assert modules["G"].training
    assert all(parameter.requires_grad for parameter in modules["D"].parameters())


def test_a_failure_keeps_the_old_file(tmp_path):
    save_snapshot(tmp_path / "a.pkl", networks(), DATASET)
    before = (tmp_path / "a.pkl").read_bytes()
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        save_snapshot(tmp_path / "a.pkl", networks(), {"not to be pickled": lambda: None})
    assert (tmp_path / "a.pkl").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
