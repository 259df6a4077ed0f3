import re
import subprocess
import sys
import tempfile

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image, ImageSequence

from dnnlib.errors import UserError
from training.data import video
from training.data.video import write_video


def frames(num, channels=3, height=16, width=32):
    return [np.full([height, width, channels], 40 * i, np.uint8) for i in range(num)]


@pytest.fixture(params=[".mp4", ".webp"])
def suffix(request, monkeypatch, tmp_path):
    """What can be written, with the temporary files in a folder that must be empty afterwards."""
    if request.param == ".webp":
        monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    yield request.param
    assert list((tmp_path / "temporary").iterdir()) == []


def read_video(path):
    """Frames, and how many there are in a second."""
    if path.suffix == ".mp4":
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        done = subprocess.run(command, capture_output=True, check=True)
        width, height, fps = re.search(rb"Video: h264.* (\d+)x(\d+),.* (\d+) fps", done.stderr).groups()
        return np.frombuffer(done.stdout, np.uint8).reshape(-1, int(height), int(width), 3), int(fps)
    with Image.open(path) as video:
        images = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(video)]
        return np.stack(images), 1000 / video.info["duration"]


@pytest.mark.parametrize("channels", [1, 3])
def test_frames_come_back(tmp_path, suffix, channels):
    path = write_video(iter(frames(5, channels)), tmp_path / "video.mp4")
    assert path == tmp_path / f"video{suffix}"
    actual, fps = read_video(path)
    assert actual.shape == (5, 16, 32, 3)
    assert fps == 20
    assert np.abs(actual.astype(int) - 40 * np.arange(5)[:, None, None, None]).max() <= 4


def test_odd_sizes_grow_in_an_mp4(tmp_path, suffix, caplog):
    actual, _ = read_video(write_video(frames(2, height=15, width=33), tmp_path / "video.mp4"))
    assert actual.shape[1:3] == ((16, 34) if suffix == ".mp4" else (15, 33))
    assert caplog.text == ""  # imageio was not asked to resize
    assert np.abs(actual.astype(int) - 40 * np.arange(2)[:, None, None, None]).max() <= 4


def test_a_failure_leaves_the_old_video_and_no_other_file(tmp_path, suffix):
    def failing():
        yield from frames(3)
        raise ZeroDivisionError

    path = tmp_path / f"video{suffix}"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError):
        write_video(failing(), tmp_path / "video.mp4")
    assert path.read_bytes() == b"old"
    assert {found.name for found in tmp_path.iterdir()} == {path.name, "temporary"}


def test_frames_of_two_sizes_are_refused_in_an_mp4(tmp_path):
    with pytest.raises(ValueError, match="same size"):
        write_video(frames(1) + frames(1, height=18), tmp_path / "video.mp4")
    assert list(tmp_path.iterdir()) == []


def test_large_frames_are_shrunk_for_webp(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with Image.open(write_video(frames(1, height=1024, width=2048), tmp_path / "video.mp4")) as video:
        assert video.size == (1024, 512)


def test_other_rates_and_gif(tmp_path):
    path = write_video(iter(frames(5)), tmp_path / "video.gif", fps=10)
    assert path == tmp_path / "video.gif"
    actual, fps = read_video(path)
    assert (len(actual), fps) == (5, 10)
    assert np.abs(actual.astype(int) - 40 * np.arange(5)[:, None, None, None]).max() <= 4
    assert read_video(write_video(iter(frames(5)), tmp_path / "video.webp", fps=10))[1] == 10
    assert read_video(write_video(iter(frames(5)), tmp_path / "video.mp4", fps=10))[1] == 10


@pytest.mark.parametrize(("asked", "duration_ms"), [(20, 50), (50, 20), (60, 20), (100, 20)])
def test_a_gif_is_not_so_fast_that_browsers_slow_it_down(tmp_path, asked, duration_ms):
    with Image.open(write_video(frames(3), tmp_path / "video.gif", fps=asked)) as video:
        assert video.info["duration"] == duration_ms


@pytest.mark.parametrize(("suffix", "longest"), [("mp4", 16384), ("webp", 16383), ("gif", 65535)])
@pytest.mark.parametrize("is_wide", [True, False])
def test_sides_that_an_encoder_refuses_are_told_at_the_first_frame(tmp_path, capfd, suffix, longest, is_wide):
    def video(length):
        yield from frames(1, height=2, width=length) if is_wide else frames(1, height=length, width=2)
        if length > longest:
            pytest.fail("it goes on")

    path = tmp_path / f"video.{suffix}"
    if is_wide or suffix == "mp4":  # the others are shrunk to a height
        with pytest.raises(UserError, match=rf"^video\.{suffix} would have \d+x\d+ pixels.* fewer columns or rows"):
            write_video(video(longest + 1), path)
        assert not path.exists()
    write_video(video(longest), path)
    assert path.stat().st_size > 0
    assert capfd.readouterr().err == ""


def test_frames_that_would_fill_the_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "MAX_KEPT_BYTES", 3 * 16 * 32 * 3)
    write_video(frames(3), tmp_path / "video.gif")
    with pytest.raises(UserError, match=r"long\.gif has more than 0 MiB of frames: make it smaller or shorter"):
        write_video(frames(4), tmp_path / "long.gif")
    assert not (tmp_path / "long.gif").exists()
