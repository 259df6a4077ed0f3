import copy

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from tests import tiny_snapshot
from training.inference import run_video, tuning
from training.inference.loading import load_generator, pretrained_part_of_D
from training.inference.projection import project_many
from training.inference.sampling import class_label, map_seeds, synthesize
from training.inference.targets import to_tensor
from training.inference.tuning import Tuning, num_tuning_steps, other_networks, save_tuned, tune
from training.networks import Discriminator
from training.run.options_file import write_options
from training.snapshots.load import load_network_pkl
from training.snapshots.portable import save_portable

CPU = torch.device("cpu")
LABEL = torch.zeros(1, 0)


class Coarse(torch.nn.Module):
    """A stand-in for a perceptual network."""

    def forward(self, img, resize_images, return_lpips):
        return torch.nn.functional.adaptive_avg_pool2d(img, 4).flatten(1) / 255


def root_mean_square(images, targets):
    return np.sqrt(np.mean((np.stack(images).astype(float) - np.stack(targets)) ** 2, axis=(1, 2, 3)))


def held_out(G, num):
    """Images of a generator with somewhat other weights, which no w of G explains."""
    other = copy.deepcopy(G)
    torch.manual_seed(3)
    for weight in other.synthesis.parameters():
        weight += 0.5 * torch.randn_like(weight) * weight.std(correction=0)
    return [synthesize(other, ws[None])[0] for ws in map_seeds(other, range(num), LABEL)]


@pytest.mark.slow
def test_error_of_pixels_falls_to_a_third_of_that_of_w_on_held_out_images():
    G = tiny_snapshot.generator()
    targets = held_out(G, 3)
    *_, last = project_many(G, to_tensor(targets, CPU), Coarse(), LABEL, num_steps=80, num_w_samples=500)
    ws = last.ws.expand(-1, G.num_ws, -1)
    before = root_mean_square([synthesize(G, w[None])[0] for w in ws], targets)
    tuned = [copy.deepcopy(G) for _ in targets]
    for i, each in enumerate(tuned):
        list(tune(each, targets[i : i + 1], ws[i : i + 1], Coarse(), LABEL, Tuning(120, 0.03)))
    after = root_mean_square([synthesize(each, w[None])[0] for each, w in zip(tuned, ws, strict=True)], targets)
    assert after.mean() <= before.mean() / 3


def test_targets_in_batches_share_one_network():
    G = tiny_snapshot.generator()
    targets = held_out(G, 3)
    ws = map_seeds(G, range(3), LABEL)
    before = copy.deepcopy(G.state_dict())
    settings = Tuning(8, 0.02, batch=2)
    losses = list(tune(G, targets, ws, Coarse(), LABEL, settings))
    assert len(losses) == num_tuning_steps(3, settings) == 16
    assert max(losses[-2:]) < min(losses[:2])
    assert not any(parameter.requires_grad for parameter in G.parameters())
    changed = {name for name, tensor in G.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith("synthesis.") and not name.endswith("noise_const") for name in changed)


@pytest.mark.parametrize("locality", [0.0, 1.0])
def test_the_network_as_it_was_is_kept_only_for_the_penalty(monkeypatch, locality):
    G = tiny_snapshot.generator()
    targets, ws = held_out(G, 1), map_seeds(G, [0], LABEL)
    copies = []
    monkeypatch.setattr(tuning.copy, "deepcopy", lambda network: copies.append(network) or network)
    next(tune(G, targets, ws, Coarse(), LABEL, Tuning(1, 0.01, locality)))
    assert copies == [G] * (locality > 0)


def test_divergence_is_told():
    G = tiny_snapshot.generator()
    steps = tune(G, held_out(G, 1), map_seeds(G, [0], LABEL), Coarse(), LABEL, Tuning(5, 0.25))
    next(steps)
    G.synthesis.b4.const.fill_(torch.inf)
    with pytest.raises(UserError, match=r"^tuning diverged, its loss is (inf|nan): lower --pti-lr=0\.25$"):
        next(steps)
    assert not any(parameter.requires_grad for parameter in G.parameters())


@pytest.mark.slow
def test_the_penalty_keeps_other_images():
    G = tiny_snapshot.generator()
    targets, ws = held_out(G, 1), map_seeds(G, [0], LABEL)
    others = map_seeds(G, range(10, 20), LABEL)
    changes = []
    for locality in (0.0, 10.0):
        tuned = copy.deepcopy(G)
        list(tune(tuned, targets, ws, Coarse(), LABEL, Tuning(30, 0.01, locality)))
        with torch.no_grad():
            images = [network.synthesis(others, noise_mode="const") for network in (G, tuned)]
        changes.append((images[0] - images[1]).square().mean().item())
    assert 0 < changes[1] < 0.6 * changes[0]


def test_other_images_are_compared_at_a_fixed_distance():
    G = tiny_snapshot.generator()
    ws = map_seeds(G, [0, 1], LABEL)
    near = tuning._ws_near(G, ws, LABEL, np.random.RandomState(9))
    expected = torch.full([2, G.num_ws], tuning.LOCALITY_DISTANCE * (8 / 512) ** 0.5)
    torch.testing.assert_close((near - ws).norm(dim=2), expected)


def test_a_tuned_snapshot_keeps_the_other_networks(tmp_path):
    G = tiny_snapshot.write(tmp_path / "network.pkl")
    tuned = copy.deepcopy(G)
    tuned.synthesis.b4.const.add_(1)
    path = save_tuned(tuned, other_networks(str(tmp_path / "network.pkl"), trusted=False), tmp_path / "tuned")
    assert path == tmp_path / "tuned.pkl"
    with open(path, "rb") as file, open(tmp_path / "network.pkl", "rb") as other:
        loaded, original = load_network_pkl(file), load_network_pkl(other)
    for name in ("G", "G_ema"):
        assert torch.equal(tiny_snapshot.images(loaded[name]), tiny_snapshot.images(tuned))
    assert isinstance(loaded["D"], Discriminator)
    assert torch.equal(tiny_snapshot.logits(loaded["D"]), tiny_snapshot.logits(original["D"]))
    assert loaded["training_set_kwargs"] == original["training_set_kwargs"] == tiny_snapshot.DATASET


@pytest.mark.parametrize("network", ["latest", "runs", "runs/00000-a"])
def test_the_networks_of_a_run_stay_together(tmp_path, monkeypatch, network):
    run_dir = tmp_path / "runs/00000-a"
    run_dir.mkdir(parents=True)
    write_options(run_dir, {})
    G = tiny_snapshot.write(run_dir / "network-snapshot-000001.pkl")
    monkeypatch.chdir(tmp_path)
    assert save_tuned(G, other_networks(network, trusted=False), tmp_path / "tuned") == tmp_path / "tuned.pkl"
    assert pretrained_part_of_D(network) == "none"
    assert run_video.run_dir_of(network).resolve() == run_dir


def test_a_generator_that_ships(tmp_path):
    G = load_generator("scenes32", CPU)
    assert save_tuned(G, other_networks("scenes32", False, pytest.fail), tmp_path / "tuned") == tmp_path / "tuned"
    assert pretrained_part_of_D("scenes32") == "unknown"


def test_an_exported_network_becomes_an_exported_network(tmp_path):
    G = tiny_snapshot.generator()
    save_portable(tmp_path / "network", G)
    G.synthesis.b4.const.add_(1)
    path = save_tuned(G, other_networks(str(tmp_path / "network"), trusted=False), tmp_path / "tuned")
    assert path == tmp_path / "tuned"
    assert torch.equal(tiny_snapshot.images(load_generator(str(path), CPU)), tiny_snapshot.images(G))


def test_without_the_other_networks_a_folder_is_written(tmp_path):
    G = tiny_snapshot.generator()
    (tmp_path / "network.pkl").write_bytes(b"damaged")
    warnings = []
    others = other_networks(str(tmp_path / "network.pkl"), False, warnings.append)
    path = save_tuned(G, others, tmp_path / "tuned")
    assert path == tmp_path / "tuned"
    assert "only the generator is written" in warnings[0]


def test_labels_reach_the_mapping(tmp_path):
    G = tiny_snapshot.generator(c_dim=2)
    label = class_label(G, 1, CPU)
    ws = map_seeds(G, [0], label)
    near = [tuning._ws_near(G, ws, each, np.random.RandomState(0)) for each in (label, class_label(G, 0, CPU))]
    assert not torch.equal(*near)
