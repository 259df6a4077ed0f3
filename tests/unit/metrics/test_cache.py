import numpy as np

from metrics.cache import load_stats, save_stats, stats_path
from metrics.feature_stats import FeatureStats

KEEP_ALL = {"capture_all": True}


def stats():
    result = FeatureStats(**KEEP_ALL)
    result.append(np.eye(3))
    return result


def test_each_key_has_its_file(tmp_path, monkeypatch):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path))
    paths = {stats_path(dataset="a", detector="b"), stats_path(dataset="a", detector="c"), stats_path(dataset="b")}
    assert len(paths) == 3
    assert {path.parent for path in paths} == {tmp_path / "metrics"}
    assert stats_path(detector="b", dataset="a") in paths


def test_what_is_saved_is_found_again(tmp_path, capsys):
    path = tmp_path / "deep" / "stats.npz"
    assert load_stats(path, KEEP_ALL) is None
    save_stats(path, stats())
    np.testing.assert_array_equal(load_stats(path, KEEP_ALL).get_all(), np.eye(3))
    assert capsys.readouterr().out == f"Using cached statistics of the real images: {path}\n"


def test_a_damaged_file_is_told_and_computed_again(tmp_path, capsys):
    path = tmp_path / "stats.npz"
    path.write_bytes(b"PK")
    assert load_stats(path, KEEP_ALL) is None
    assert capsys.readouterr().out.startswith(f"Computing the statistics of the real images again: {path}: not feature")


def test_a_cache_that_cannot_be_written_is_told(tmp_path, capsys):
    (tmp_path / "file").touch()
    save_stats(tmp_path / "file" / "stats.npz", stats())
    assert capsys.readouterr().out.startswith("Cannot cache the statistics of the real images: ")


def test_no_path_is_no_cache(tmp_path):
    save_stats(None, stats())
    assert load_stats(None, KEEP_ALL) is None


def test_without_a_home_nothing_is_cached(homeless, capsys):
    assert stats_path(dataset="a") is None
    assert capsys.readouterr().out.startswith("Cannot cache the statistics of the real images: this user has no home")
