import numpy as np
import pytest
import torch

from metrics import feature_stats
from metrics.feature_stats import FeatureStats
from tests.helpers import assert_close

ROWS = np.random.RandomState(0).randn(50, 4).astype(np.float32)


def filled(batch_size=7, **kwargs):
    stats = FeatureStats(**kwargs)
    for start in range(0, len(ROWS), batch_size):
        stats.append(ROWS[start : start + batch_size])
    return stats


@pytest.mark.parametrize("batch_size", [1, 7, 50])
def test_keeps_all_rows_in_order(batch_size):
    stats = filled(batch_size, capture_all=True)
    np.testing.assert_array_equal(stats.get_all(), ROWS)
    assert torch.equal(stats.get_all_torch(), torch.from_numpy(ROWS))


@pytest.mark.parametrize("capture_all", [False, True])
@pytest.mark.parametrize("fold_rows", [1, 20, 1000])
def test_moments_are_those_of_all_rows(fold_rows, capture_all, monkeypatch):
    monkeypatch.setattr(feature_stats, "_FOLD_ROWS", fold_rows)
    mean, cov = filled(capture_mean_cov=True, capture_all=capture_all).get_mean_cov()
    assert_close(mean, ROWS.mean(axis=0, dtype=np.float64), 1e-12)
    assert_close(cov, np.cov(ROWS.astype(np.float64), rowvar=False, bias=True), 1e-12)


def test_moments_do_not_keep_the_rows(monkeypatch):
    monkeypatch.setattr(feature_stats, "_FOLD_ROWS", 10)
    assert filled(capture_mean_cov=True)._num_waiting < 10


def test_ignores_rows_beyond_the_limit():
    stats = filled(capture_all=True, capture_mean_cov=True, max_items=17)
    assert stats.is_full()
    assert stats.num_items == 17
    np.testing.assert_array_equal(stats.get_all(), ROWS[:17])
    assert_close(stats.get_mean_cov()[0], ROWS[:17].mean(axis=0, dtype=np.float64), 1e-12)


def test_is_full_only_at_the_limit():
    assert not filled(capture_all=True, max_items=51).is_full()
    assert not filled(capture_all=True).is_full()


@pytest.mark.parametrize("shape", [[4], [2, 5], [2, 4, 1]])
def test_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"features must be \[N, 4\]"):
        filled(capture_all=True).append(np.zeros(shape))


@pytest.mark.parametrize("kwargs", [{"capture_all": True}, {"capture_mean_cov": True}])
def test_a_file_gives_back_the_same_statistics(kwargs, tmp_path):
    stats = filled(**kwargs)
    stats.save(tmp_path / "stats.npz")
    loaded = FeatureStats.load(tmp_path / "stats.npz", **kwargs)
    assert (loaded.num_items, loaded.num_features) == (50, 4)
    if stats.capture_all:
        np.testing.assert_array_equal(loaded.get_all(), stats.get_all())
    else:
        np.testing.assert_array_equal(np.vstack(loaded.get_mean_cov()), np.vstack(stats.get_mean_cov()))


def damaged_files(good: bytes):
    middle = len(good) // 2
    yield good[:middle]
    yield good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]
    yield b""
    yield b"not a zip"


def test_refuses_damaged_files(tmp_path):
    path = tmp_path / "stats.npz"
    filled(capture_all=True).save(path)
    for content in damaged_files(path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not feature statistics"):
            FeatureStats.load(path, capture_all=True)


def test_refuses_statistics_of_the_other_kind(tmp_path):
    filled(capture_all=True).save(tmp_path / "stats.npz")
    with pytest.raises(ValueError, match="not feature statistics"):
        FeatureStats.load(tmp_path / "stats.npz", capture_mean_cov=True)


def test_executes_nothing_from_a_file(tmp_path):
    np.savez(tmp_path / "stats.npz", num_items=1, rows=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        FeatureStats.load(tmp_path / "stats.npz", capture_all=True)


OF_ROWS, OF_MOMENTS = {"capture_all": True}, {"capture_mean_cov": True}


@pytest.mark.parametrize(
    ("kwargs", "arrays"),
    [
        (OF_ROWS, {"rows": np.zeros([5, 3], np.float32), "num_items": 6}),
        (OF_ROWS, {"rows": np.zeros([5, 3], np.float64), "num_items": 5}),
        (OF_ROWS, {"rows": np.full([5, 3], np.nan, np.float32), "num_items": 5}),
        (OF_ROWS, {"rows": np.zeros([], np.float32), "num_items": 1}),
        (OF_MOMENTS, {"sum": np.zeros(3), "outer": np.zeros([3, 2]), "num_items": 5}),
        (OF_MOMENTS, {"sum": np.zeros(3), "outer": np.zeros([3, 3]), "num_items": 0}),
        (OF_MOMENTS, {"sum": np.zeros(3), "outer": np.zeros([3, 3]), "num_items": -1}),
        (OF_MOMENTS, {"sum": np.zeros(3, np.float32), "outer": np.zeros([3, 3]), "num_items": 5}),
    ],
)
def test_refuses_arrays_that_do_not_fit_together(tmp_path, kwargs, arrays):
    np.savez(tmp_path / "stats.npz", **arrays)
    with pytest.raises(ValueError, match="not feature statistics"):
        FeatureStats.load(tmp_path / "stats.npz", **kwargs)


def test_a_small_file_does_not_become_large_arrays(tmp_path):
    np.savez_compressed(tmp_path / "stats.npz", rows=np.zeros([100_000, 3], np.float32), num_items=100_000)
    with pytest.raises(ValueError, match="it is compressed"):
        FeatureStats.load(tmp_path / "stats.npz", capture_all=True)
