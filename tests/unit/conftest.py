import pytest

import dnnlib
from metrics import detectors


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache of downloads and statistics, and no detectors of the user's."""
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(dnnlib.util, "_cache_dir", None)
    monkeypatch.delenv(detectors.FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv(detectors.TRUST_VARIABLE, "0")
