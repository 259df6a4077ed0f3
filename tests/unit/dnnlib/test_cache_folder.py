from pathlib import Path

from dnnlib import cache_folder


def test_cache_dir_precedence(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_folder, "_cache_dir", None)
    monkeypatch.delenv("DNNLIB_CACHE_DIR", raising=False)
    assert Path(cache_folder.make_cache_dir_path("a", "b")) == Path.home() / ".cache" / "dnnlib" / "a" / "b"
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "env"))
    assert Path(cache_folder.make_cache_dir_path()) == tmp_path / "env"
    cache_folder.set_cache_dir(tmp_path / "set")
    assert Path(cache_folder.make_cache_dir_path("x")) == tmp_path / "set" / "x"
