import itertools

import numpy as np
import torch

from training.inference import centers as clustering
from training.inference.centers import k_means, truncate

SPOTS = np.array([[0, 0], [10, 0], [0, 10]], np.float32)


def samples():
    rng = np.random.RandomState(0)
    return torch.from_numpy(np.concatenate([SPOTS[i] + rng.randn(60 - 20 * i, 2) for i in range(3)])).float()


def test_clusters_are_found_largest_first():
    w = samples()
    for seed in range(5):
        centers = k_means(w, 3, seed)
        expected = torch.stack([w[:60].mean(dim=0), w[60:100].mean(dim=0), w[100:].mean(dim=0)])
        torch.testing.assert_close(centers, expected)


def test_no_partition_of_few_points_is_better():
    w = torch.tensor([[0.0], [1.0], [5.0], [6.5], [20.0]])
    centers = k_means(w, 3, 0)
    error = (w - centers.T).square().amin(dim=1).sum().item()
    errors = []
    for labels in itertools.product(range(3), repeat=5):
        clusters = [w[[i for i in range(5) if labels[i] == k]] for k in set(labels)]
        errors.append(sum((cluster - cluster.mean()).square().sum().item() for cluster in clusters))
    assert error <= min(errors) + 1e-6


def test_more_centers_than_different_points():
    centers = k_means(torch.ones(4, 2), 3, 0)
    assert torch.equal(centers, torch.ones(3, 2))


def test_the_seed_decides():
    w = torch.randn(50, 4)
    assert torch.equal(k_means(w, 8, 1), k_means(w, 8, 1))
    assert not torch.equal(k_means(w, 8, 1), k_means(w, 8, 2))


def test_each_center_is_the_mean_of_the_samples_nearest_to_it(monkeypatch):
    monkeypatch.setattr(clustering, "_BATCH", 30)
    sizes = []
    cdist = torch.cdist
    monkeypatch.setattr(torch, "cdist", lambda a, b: sizes.append(len(a)) or cdist(a, b))
    w = torch.from_numpy(np.random.RandomState(1).randn(100, 3))
    centers = k_means(w, 7, 0)
    assert set(sizes) == {30, 10}
    nearest = ((w[:, None] - centers) ** 2).sum(dim=2).argmin(dim=1)
    means = torch.stack([w[nearest == i].mean(dim=0) for i in range(7)])
    torch.testing.assert_close(centers.double(), means, atol=1e-6, rtol=0)
    counts = torch.bincount(nearest).tolist()
    assert counts == sorted(counts, reverse=True)


def test_an_empty_cluster_keeps_its_center(monkeypatch):
    start = torch.tensor([[0.0], [1.0], [50.0]], dtype=torch.float64)
    monkeypatch.setattr(clustering, "_spread_start", lambda w, num_centers, rng: start)
    assert k_means(torch.tensor([[0.0], [0.25], [2.0]]), 3, 0).flatten().tolist() == [0.125, 2, 50]


def test_truncation_goes_to_the_nearest_center():
    centers = torch.from_numpy(SPOTS)
    ws = torch.tensor([[9.0, 1.0], [1.0, 2.0]])[:, None].repeat(1, 3, 1)
    assert truncate(ws, centers, 1) is ws
    torch.testing.assert_close(truncate(ws, centers, 0)[:, 2], centers[[1, 0]])
    torch.testing.assert_close(truncate(ws, centers, 0.5)[:, 0], torch.tensor([[9.5, 0.5], [0.5, 1.0]]))
