import torch

from tests import tiny_snapshot
from training.inference import loading
from training.snapshots.portable import save_portable


def test_snapshot_gives_its_averaged_generator_ready_for_use(tmp_path):
    G_ema = tiny_snapshot.write(tmp_path / "snapshot.pkl")
    G = loading.load_generator(str(tmp_path / "snapshot.pkl"), torch.device("cpu"))
    assert not G.training
    assert not any(parameter.requires_grad for parameter in G.parameters())
    assert all(torch.equal(tensor, G_ema.state_dict()[name]) for name, tensor in G.state_dict().items())


def test_a_network_comes_with_its_training_set(tmp_path):
    tiny_snapshot.write(tmp_path / "snapshot.pkl")
    G, training_set_kwargs = loading.load_network(str(tmp_path / "snapshot.pkl"))
    assert training_set_kwargs == tiny_snapshot.DATASET
    save_portable(tmp_path / "exported", G)
    G, training_set_kwargs = loading.load_network(str(tmp_path / "exported"))
    assert training_set_kwargs is None
    assert not G.training
