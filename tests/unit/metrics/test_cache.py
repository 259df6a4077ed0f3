import json

import pytest

from metrics.cache import dataset_fingerprint, resize_filter, stats_path
from tests import image_files

FILES = image_files.images(7)


def test_folder_and_zip_with_the_same_files_are_the_same_dataset(tmp_path):
    folder = image_files.write_folder(tmp_path / "a", FILES)
    copy = image_files.write_folder(tmp_path / "b", FILES)
    archive = image_files.write_zip(tmp_path / "c.zip", dict(reversed(FILES.items())))
    assert dataset_fingerprint(folder) == dataset_fingerprint(copy) == dataset_fingerprint(str(archive))


def changed_sets():
    first, *others = FILES
    yield {**FILES, first: FILES[first][:-1] + b"x"}
    yield {name: FILES[name] for name in others}
    yield {**FILES, "another.png": FILES[first]}
    yield {**{name: FILES[name] for name in others}, "renamed.png": FILES[first]}


@pytest.mark.parametrize("files", list(changed_sets()))
@pytest.mark.parametrize("write", [image_files.write_folder, image_files.write_zip])
def test_any_change_is_another_dataset(files, write, tmp_path):
    assert dataset_fingerprint(write(tmp_path / "a.zip", FILES)) != dataset_fingerprint(
        write(tmp_path / "b.zip", files)
    )


def test_a_file_changed_in_place_is_noticed(tmp_path):
    folder = image_files.write_folder(tmp_path / "a", FILES)
    before = dataset_fingerprint(folder)
    file = folder / next(iter(FILES))
    file.write_bytes(file.read_bytes()[::-1])
    assert dataset_fingerprint(folder) != before


@pytest.mark.parametrize(
    ("content", "expected"),
    [({"labels": None, "resize_filter": "box"}, "box"), ({"labels": None}, None), ([1], None), (None, None)],
)
def test_resize_filter_is_told_if_known(content, expected, tmp_path):
    files = FILES if content is None else {**FILES, "dataset.json": json.dumps(content).encode()}
    assert resize_filter(image_files.write_zip(tmp_path / "a.zip", files)) == expected


def test_each_key_has_its_file(tmp_path, monkeypatch):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path))
    paths = {stats_path(dataset="a", detector="b"), stats_path(dataset="a", detector="c"), stats_path(dataset="b")}
    assert len(paths) == 3
    assert {path.parent for path in paths} == {tmp_path / "metrics"}
    assert stats_path(detector="b", dataset="a") in paths
