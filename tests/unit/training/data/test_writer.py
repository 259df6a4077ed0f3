import contextlib
import os
import signal
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dnnlib.errors import UserError
from training.data.codec import BadImageError
from training.data.labels import Labels
from training.data.preparation import Preparation
from training.data.sources import Item, Source, SourceImage
from training.data.writer import write_dataset

UNCHANGED = Preparation(mode="auto", transform=None, width_px=None, height_px=None, resize_filter="box")


def read(number, _max_px):
    if number % 5 == 4:
        raise BadImageError("is the last of five")
    return SourceImage(Image.new("L", (4, 4), number % 256), [{"category": "number", "box": [0, 0, 4, 4]}])


def die(_number, _max_px):
    os.kill(os.getpid(), signal.SIGKILL)


def numbered(num_images, read=read):
    """Images with everything that can be recorded of images."""
    return Source(
        num_images,
        items=lambda: (Item(f"{number:08d}", number) for number in range(num_images)),
        read=read,
        labels=Labels(np.full(num_images, 7)),
        has_files=True,
    )


def write(dest: Path, num_images=10, num_workers=1, read=read):
    return write_dataset(numbered(num_images, read), dest, UNCHANGED, skip_bad=True, num_workers=num_workers)


def test_report(tmp_path):
    report = write(tmp_path / "a.zip")
    assert report.num_written == 8
    assert str(report.layout) == "4x4 grey"
    assert [(group.text, group.names) for group in report.skipped.values()] == [
        ("is the last of five", ["00000004", "00000009"])
    ]
    assert report.listing == tmp_path / "a.zip.skipped.jsonl"
    assert report.class_counts == {7: 8}
    assert (report.values.low, report.values.high) == (0, 8)


def test_only_the_dataset_and_the_listing_are_left(tmp_path):
    write(tmp_path / "a.zip")
    write(tmp_path / "new/b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "a.zip.skipped.jsonl", "new"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["b", "b.skipped.jsonl"]


def test_no_list_of_an_earlier_dataset_is_left(tmp_path):
    write(tmp_path / "a.zip")
    (tmp_path / "a.zip").unlink()
    assert write(tmp_path / "a.zip", num_images=4).listing is None
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_link_to_an_empty_folder(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert write(tmp_path / "link").listing == tmp_path / "real.skipped.jsonl"
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real/dataset.json").is_file()


def test_a_link_to_a_zip_that_is_to_be(tmp_path):
    (tmp_path / "link.zip").symlink_to("new/real.zip")
    write(tmp_path / "link.zip", num_images=4)
    assert (tmp_path / "link.zip").is_symlink()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["real.zip"]


def test_life_is_shown_while_the_disk_is_busy(tmp_path, monkeypatch):
    asked = []

    @contextlib.contextmanager
    def heartbeat(describe):
        asked.append(describe())
        yield
        asked.append(describe())

    monkeypatch.setattr("training.data.writer.heartbeat", heartbeat)
    write(tmp_path / "a.zip")
    assert asked == [None, f"Still storing {tmp_path / 'a.zip'} ..."]


def test_a_killed_process_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="a worker process was killed"):
        write(tmp_path / "a.zip", num_workers=2, read=die)
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_the_number_of_images(tmp_path, monkeypatch):
    """Names in a list would take 65 bytes of each image, entries of `zipfile` 600."""
    monkeypatch.setattr("training.data.spool.CHUNK_BYTES", 4096)  # files are read in parts, even small ones

    def peak_bytes(num_images):
        source = numbered(num_images)
        tracemalloc.start()
        write_dataset(source, tmp_path / f"{num_images}.zip", UNCHANGED, skip_bad=True, num_workers=1)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(299)  # what Python allocates once
    few, many = peak_bytes(300), peak_bytes(3000)
    assert many - few < 2700 * 40


def one_odd_first(number, _max_px):
    return SourceImage(Image.new("L" if number == 0 else "RGB", (4, 4)), None)


def half_odd(number, _max_px):
    return SourceImage(Image.new("RGB", (4, 4) if number >= 150 else (5, 4)), None)


@pytest.mark.parametrize("num_images", [3, 200])
def test_a_first_image_unlike_the_others_is_no_reason_to_leave_these_out(tmp_path, num_images):
    message = (
        "^more images would be left out than kept; the first of them: 00000001 would be 4x4 RGB, but the images before "
        "it are 4x4 grey: set --mode=rgb or --mode=grey$"
    )
    with pytest.raises(UserError, match=message):
        write(tmp_path / "a.zip", num_images, read=one_odd_first)
    assert list(tmp_path.iterdir()) == []


def test_half_of_the_images_may_be_left_out(tmp_path):
    assert write(tmp_path / "a.zip", 300, read=half_odd).num_written == 150
