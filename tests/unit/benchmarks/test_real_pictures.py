"""Tiles of real pictures: where they lie, which of them show something, and to which part they belong."""

import io
import zipfile
from unittest import mock

import click
import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner

from benchmarks import real_pictures
from benchmarks.real_pictures import main, moved, people_crops, street_tiles, tiles
from dnnlib.errors import UserError
from metrics.objects.protocol import Detections


def test_tiles_cover_the_image_and_stay_inside():
    places = list(tiles(np.zeros([10, 13, 3]), side_px=6, stride_px=3))
    assert [(rows.start, columns.start) for rows, columns in places] == [(y, x) for y in (0, 3) for x in (0, 3, 6)]
    assert all(place.stop - place.start == 6 for pair in places for place in pair)


def test_a_tile_shows_something_if_enough_of_it_differs_enough():
    background = np.full([10, 10, 3], 200, np.int16)
    frame = background.astype(np.uint8)
    frame[0, :2] = [200, 170, 200]  # two of a hundred pixels, which is not more than 2 %
    assert not moved(frame, background)
    frame[1, 0] = [200, 170, 200]
    assert moved(frame, background)
    assert not moved(np.full([10, 10, 3], 180, np.uint8), background)


def test_street_tiles_are_split_by_time(monkeypatch):
    monkeypatch.setattr(real_pictures, "STREET_TILE_PX", 4)
    monkeypatch.setattr(real_pictures, "STREET_STRIDE_PX", 4)
    frames = np.zeros([10, 4, 8, 3], np.uint8)
    for number in (0, 7, 8):  # something passes on the right
        frames[number, :, 4:] = 99
    found = dict(street_tiles(frames))
    assert list(found) == ["train/frame000-01.png", "train/frame007-01.png", "held-out/frame008-01.png"]
    assert (found["train/frame000-01.png"] == 99).all()


class OnePerFrame:
    """Finds a person and a car in every frame, and a person too small to count."""

    categories = ("car", "person")
    min_side_px = 3.5

    def detect(self, img):
        boxes = torch.tensor([[2.0, 1.0, 4.0, 5.0], [0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 2.0, 3.0]])
        return [Detections(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([1, 0, 1]))] * len(img)


def test_people_are_cut_out_and_split_by_time():
    frames = np.random.RandomState(0).randint(256, size=(5, 12, 12, 3), dtype=np.uint8)
    found = dict(people_crops(frames, OnePerFrame()))
    assert list(found) == [*(f"train/frame{number:03d}-00.png" for number in range(4)), "held-out/frame004-00.png"]
    assert (found["train/frame001-00.png"] == frames[1, 1:5, 1:5]).all()


def test_people_need_the_detector(tmp_path, monkeypatch):
    monkeypatch.setattr(real_pictures, "read_frames", lambda _video: np.zeros([1, 12, 12, 3], np.uint8))
    (tmp_path / "video").touch()
    arguments = ["people", f"--video={tmp_path / 'video'}", f"--dest={tmp_path}", f"--detectors={tmp_path}"]
    with mock.patch.object(real_pictures, "load_object_detector", side_effect=UserError("nanodet.bin is missing")):
        result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.output) == (1, "Error: nanodet.bin is missing\n")


def test_aerial_tiles(tmp_path, monkeypatch):
    monkeypatch.setattr(real_pictures, "AERIAL_TILE_PX", 8)
    monkeypatch.setattr(real_pictures, "AERIAL_STRIDE_PX", 8)
    buffer = io.BytesIO()
    pixels = np.arange(16 * 8 * 3, dtype=np.uint8).reshape(8, 16, 3)
    PIL.Image.fromarray(pixels).save(buffer, format="PNG")
    with zipfile.ZipFile(tmp_path / "deepforest.whl", "w") as archive:
        for name in real_pictures.PHOTOGRAPHS:
            archive.writestr(f"deepforest/data/{name}", buffer.getvalue())
    result = CliRunner().invoke(
        main, ["aerial", f"--wheel={tmp_path / 'deepforest.whl'}", f"--dest={tmp_path / 'out'}"]
    )
    assert result.output == f"Wrote 4 tiles to {tmp_path / 'out'}\n"
    with PIL.Image.open(tmp_path / "out/photograph1-0001.png") as image:
        assert (np.asarray(image) == pixels[:, 8:]).all()


@pytest.mark.parametrize(("command", "flag"), [("street", "--video"), ("people", "--video"), ("aerial", "--wheel")])
def test_other_files_are_refused_in_one_line(tmp_path, command, flag):
    (tmp_path / "text").write_text("no video")
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("a.txt", "no photograph")
    for name in ("text", "zip"):
        result = CliRunner().invoke(main, [command, f"{flag}={tmp_path / name}", f"--dest={tmp_path / 'out'}"])
        assert result.exit_code == 1
        assert result.output.startswith(f"Error: {flag}={tmp_path / name} ")
        assert result.output.count("\n") == 1


def test_nothing_to_write(tmp_path):
    with pytest.raises(click.ClickException, match="there is nothing to write"):
        real_pictures.write_all(iter(()), tmp_path)
