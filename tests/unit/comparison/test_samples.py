"""Grids of samples: consecutive seeds, truncated, drawn once."""

import json

import numpy as np
import PIL.Image
import pytest
import torch

from comparison.samples import COLUMNS, ROWS, TRUNCATION_PSI, draw_samples, real_images
from tests import tiny_snapshot
from training.data.grid import write_png
from training.inference.sampling import map_seeds, synthesize


@pytest.mark.parametrize("c_dim", [0, 3])
def test_every_tile_is_its_seed(tmp_path, c_dim):
    snapshot = tmp_path / "network-snapshot-000001.pkl"
    G = tiny_snapshot.write(snapshot, c_dim=c_dim)
    draw_samples(snapshot, tmp_path / "samples.png")
    pixels = np.asarray(PIL.Image.open(tmp_path / "samples.png"))
    side = tiny_snapshot.RESOLUTION_PX
    assert pixels.shape == (ROWS * side, COLUMNS * side, 3)
    label = torch.eye(c_dim)[:1] if c_dim else torch.zeros([1, 0])
    for seed in (0, 1, COLUMNS, ROWS * COLUMNS - 1):
        row, column = divmod(seed, COLUMNS)
        expected = synthesize(G, map_seeds(G, [seed], label, TRUNCATION_PSI))[0]
        tile = pixels[row * side : (row + 1) * side, column * side : (column + 1) * side]
        assert np.abs(tile.astype(int) - expected).max() <= 1
    assert json.loads((tmp_path / "samples.json").read_text()) == {
        "snapshot_pkl": snapshot.name,
        "seeds": [0, ROWS * COLUMNS - 1],
        "truncation_psi": TRUNCATION_PSI,
    }


def test_drawn_once_for_a_snapshot(tmp_path):
    for name in ("network-snapshot-000001.pkl", "network-snapshot-000002.pkl"):
        tiny_snapshot.write(tmp_path / name)
    path = tmp_path / "samples.png"
    draw_samples(tmp_path / "network-snapshot-000001.pkl", path)
    path.write_bytes(b"kept")
    draw_samples(tmp_path / "network-snapshot-000001.pkl", path)
    assert path.read_bytes() == b"kept"
    draw_samples(tmp_path / "network-snapshot-000002.pkl", path)
    assert path.read_bytes() != b"kept"


def test_real_images_are_cut_out(tmp_path):
    reals = np.random.RandomState(0).randint(256, size=[5 * 4, 9 * 4, 3], dtype=np.uint8)
    write_png(reals, tmp_path / "reals.png")
    assert np.array_equal(real_images(tmp_path / "reals.png", 4), reals[: ROWS * 4, : COLUMNS * 4])
    assert real_images(tmp_path / "reals.png", 8) is None
