from pathlib import Path

import pytest

from dnnlib import cache_folder
from dnnlib.errors import UserError


def test_cache_dir_precedence(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_folder, "_cache_dir", None)
    monkeypatch.delenv("DNNLIB_CACHE_DIR", raising=False)
    assert Path(cache_folder.make_cache_dir_path("a", "b")) == Path.home() / ".cache" / "dnnlib" / "a" / "b"
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "env"))
    assert Path(cache_folder.make_cache_dir_path()) == tmp_path / "env"
    cache_folder.set_cache_dir(tmp_path / "set")
    assert Path(cache_folder.make_cache_dir_path("x")) == tmp_path / "set" / "x"


def test_a_user_without_a_home_is_told_what_to_set(homeless):
    with pytest.raises(UserError, match="no home folder for downloads and caches: set DNNLIB_CACHE_DIR, or HOME"):
        cache_folder.make_cache_dir_path("a")
