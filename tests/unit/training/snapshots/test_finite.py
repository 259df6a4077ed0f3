import io
import pickle

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from tests import tiny_snapshot
from training.snapshots import finite
from training.snapshots.finite import ensure_finite, nonfinite_tensors, reset_w_avg
from training.snapshots.load import load_network_pkl, load_networks


def generator(c_dim: int = 0):
    G = tiny_snapshot.generator(c_dim)
    G.mapping.w_avg.fill_(torch.nan)
    return G


def test_tensors_that_are_not_finite_are_named():
    G = tiny_snapshot.generator()
    assert nonfinite_tensors(G) == []
    G.mapping.w_avg[3] = torch.nan
    G.synthesis.b8.conv0.bias[0] = -torch.inf
    assert nonfinite_tensors(G) == ["synthesis.b8.conv0.bias", "mapping.w_avg"]


@pytest.mark.parametrize("c_dim", [0, 3])
def test_the_mean_of_w_is_that_of_random_latents(c_dim):
    G = generator(c_dim)
    reset_w_avg(G)
    z = torch.from_numpy(np.random.RandomState(0).randn(10_000, 8)).float()
    labels = torch.eye(c_dim)[np.random.RandomState(0).randint(c_dim, size=10_000)] if c_dim else torch.zeros(10_000, 0)
    expected = G.mapping(z, labels)[:, 0].mean(dim=0)
    torch.testing.assert_close(G.mapping.w_avg, expected)


def test_the_size_of_batches_changes_nothing(monkeypatch):
    first, second = generator(2), generator(2)
    reset_w_avg(first)
    monkeypatch.setattr(finite, "MAX_BATCH", 7)
    reset_w_avg(second)
    torch.testing.assert_close(first.mapping.w_avg, second.mapping.w_avg)


def test_the_random_numbers_of_the_caller_stay():
    G = generator(2)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    reset_w_avg(G)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_repairs_are_noted():
    G = generator()
    notes = ensure_finite("G_ema", G)
    assert notes == ["G_ema: mapping.w_avg was not finite; it was reset to the mean w of 10000 random z"]
    assert ensure_finite("G_ema", G) == []


def test_other_tensors_are_refused_unless_trusted():
    G = generator()
    G.mapping.fc0.weight[0, 0] = torch.inf
    with pytest.raises(UserError, match=r"^G: 'mapping.w_avg' and 1 more tensors are not finite.*an earlier snapshot$"):
        ensure_finite("G", G)
    assert ensure_finite("G", G, trusted=True) == [
        "G: 'mapping.w_avg' and 1 more tensors are not finite; the training diverged, or the file is damaged"
    ]


def test_weights_that_overflow_are_refused():
    G = generator()
    for layer in (G.mapping.fc0, G.mapping.fc1):
        layer.weight.fill_(1e30)
    with pytest.raises(UserError, match=r"'mapping.w_avg' is not finite"):
        ensure_finite("G", G)


def test_large_mapping_networks_are_not_sampled(monkeypatch):
    monkeypatch.setattr(finite, "MAX_MAPPING_ELEMENTS", 10)
    with pytest.raises(UserError, match=r"'mapping.w_avg' is not finite"):
        ensure_finite("G", generator())


def snapshot(trouble: str) -> bytes:
    parts = tiny_snapshot.snapshot()
    parts["G_ema"].mapping.w_avg.fill_(torch.nan)
    if trouble == "D":
        torch.nn.init.constant_(parts["D"].b8.conv0.weight, torch.nan)
    return pickle.dumps(parts)


@pytest.mark.parametrize("trusted", [False, True])
def test_snapshots_are_repaired_when_they_are_opened(trusted, caplog):
    opened = load_networks(io.BytesIO(snapshot("")), trusted=trusted)
    assert opened.parts["G_ema"].mapping.w_avg.isfinite().all()
    assert [note.partition(":")[0] for note in opened.notes] == ["G_ema"]
    load_network_pkl(io.BytesIO(snapshot("")), trusted=trusted)
    assert "snapshot: G_ema: mapping.w_avg was not finite" in caplog.text


def test_only_what_is_asked_for_must_be_finite():
    assert load_networks(io.BytesIO(snapshot("D")), ["G"]).notes == []
    with pytest.raises(UserError, match=r"snapshot: D: 'b8.conv0.weight' is not finite"):
        load_networks(io.BytesIO(snapshot("D")), ["G", "D"])
    assert len(load_networks(io.BytesIO(snapshot("D")), trusted=True).notes) == 2
