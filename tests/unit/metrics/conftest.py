import pytest

import dnnlib
from metrics import detectors
from tests.unit.metrics import tiny


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(dnnlib.util, "_cache_dir", None)
    monkeypatch.delenv(detectors.FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv(detectors.TRUST_VARIABLE, "0")


@pytest.fixture
def tiny_weights(tmp_path, monkeypatch):
    """Register the tiny detector for one test; returns its weights file."""
    monkeypatch.setattr(detectors, "DETECTORS", dict(detectors.DETECTORS))
    detectors.load_detector.cache_clear()
    detectors.weights_sha256.cache_clear()
    weights = tmp_path / "tiny.txt"
    weights.write_text("1.0")
    tiny.register_detector(weights)
    return weights


@pytest.fixture
def real(tmp_path):
    """Real images, by the keywords of their dataset."""
    return tiny.dataset_kwargs(tiny.write_images(tmp_path / "real"))
