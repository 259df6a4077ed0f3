"""Tiles of real pictures: where they lie, which of them show something, and to which part they belong."""

import io
import zipfile

import click
import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner

from benchmarks import real_pictures
from benchmarks.real_pictures import main, moved, street_tiles, tiles


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


@pytest.mark.parametrize(("command", "flag"), [("street", "--video"), ("aerial", "--wheel")])
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
    with pytest.raises(click.ClickException, match="there are no tiles"):
        real_pictures.write_all(iter(()), tmp_path)
