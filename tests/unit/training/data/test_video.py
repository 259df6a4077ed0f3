import sys
import types

import numpy as np
import pytest
from PIL import Image

from training.data.video import write_video


def frames(num, channels=3, height=16):
    return [np.full([height, 2 * height, channels], 40 * i, np.uint8) for i in range(num)]


@pytest.mark.parametrize("channels", [1, 3])
def test_webp_without_the_package(tmp_path, monkeypatch, channels):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    path = write_video(iter(frames(5, channels)), tmp_path / "film.mp4")
    assert path == tmp_path / "film.webp"
    assert list(tmp_path.iterdir()) == [path]
    with Image.open(path) as film:
        assert (film.n_frames, film.size) == (5, (32, 16))
        for i in range(5):
            film.seek(i)
            assert np.abs(np.asarray(film.convert("RGB")).astype(int) - 40 * i).max() <= 4
            assert film.info["duration"] in (0, 50)


def test_large_frames_are_shrunk_for_webp(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with Image.open(write_video(frames(1, height=1024), tmp_path / "film.mp4")) as film:
        assert film.size == (1024, 512)


def test_mp4_with_the_package(tmp_path, monkeypatch):
    calls = []

    def write_frames(path, size, **_options):
        calls.append((path, size))
        try:
            while True:
                calls.append((yield))
        finally:
            calls.append("closed")

    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", types.SimpleNamespace(write_frames=write_frames))
    path = tmp_path / "film.mp4"
    assert write_video(iter(frames(3)), path) == path
    assert calls == [(str(path), (32, 16)), *(frame.tobytes() for frame in frames(3)), "closed"]
