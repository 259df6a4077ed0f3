import pytest

from metrics import detectors
from metrics.weights import weights_sha256
from tests.unit.metrics import tiny


@pytest.fixture(autouse=True)
def _without_the_users_files(own_cache):
    pass


@pytest.fixture
def tiny_weights(tmp_path, monkeypatch):
    """Register the tiny detector for one test; returns its weights file."""
    monkeypatch.setattr(detectors, "DETECTORS", dict(detectors.DETECTORS))
    detectors.load_detector.cache_clear()
    weights_sha256.cache_clear()
    weights = tmp_path / "tiny.txt"
    weights.write_text("1.0")
    tiny.register_detector(weights)
    return weights


@pytest.fixture
def real(tmp_path):
    """Real images, by the keywords of their dataset."""
    return tiny.dataset_kwargs(tiny.write_images(tmp_path / "real"))
