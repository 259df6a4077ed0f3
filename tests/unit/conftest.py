"""What the tests of scripts and metrics begin with."""

from pathlib import Path

import pytest

from metrics import weights
from tests import tiny_snapshot


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache of downloads and statistics, and no detectors of the user's."""
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("dnnlib.cache_folder._cache_dir", None)
    monkeypatch.delenv(weights.FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv(weights.TRUST_VARIABLE, "0")


@pytest.fixture
def homeless(monkeypatch):
    """A user without a home folder, as in containers that run under any number, and no other place for a cache."""

    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    monkeypatch.setattr("dnnlib.cache_folder._cache_dir", None)
    monkeypatch.delenv("DNNLIB_CACHE_DIR", raising=False)


@pytest.fixture
def network(tmp_path):
    """A snapshot, and its generator."""
    path = tmp_path / "network-snapshot-000001.pkl"
    return path, tiny_snapshot.write(path)


@pytest.fixture
def outdir(tmp_path):
    """Where a script is to write; it makes the folders."""
    return tmp_path / "deep" / "out"
