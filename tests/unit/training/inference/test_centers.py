import itertools

import numpy as np
import torch

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


def test_truncation_goes_to_the_nearest_center():
    centers = torch.from_numpy(SPOTS)
    ws = torch.tensor([[9.0, 1.0], [1.0, 2.0]])[:, None].repeat(1, 3, 1)
    assert truncate(ws, centers, 1) is ws
    torch.testing.assert_close(truncate(ws, centers, 0)[:, 2], centers[[1, 0]])
    torch.testing.assert_close(truncate(ws, centers, 0.5)[:, 0], torch.tensor([[9.5, 0.5], [0.5, 1.0]]))
