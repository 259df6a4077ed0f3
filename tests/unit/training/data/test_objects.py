import json
import tracemalloc

import pytest

from dnnlib.errors import UserError
from tests import image_files
from training.data.archive import open_archive
from training.data.objects import read_objects
from training.dataset import ImageFolderDataset

CAR = {"category": "car", "box": [0, 1, 4.5, 6]}


@pytest.fixture
def folder(tmp_path):
    files = {f"00/{i}.png": image_files.encode(image_files.random_image(i)) for i in range(4)}
    return image_files.write_folder(tmp_path / "data", files)


def write(folder, content):
    (folder / "objects.json").write_text(content if isinstance(content, str) else json.dumps(content))


def test_objects_of_an_item(folder):
    write(folder, {"objects": {"00/1.png": [CAR], "00/2.png": []}})
    dataset = ImageFolderDataset(folder, xflip=True)
    assert [dataset.get_objects(i) for i in range(8)] == [None, [CAR], [], None, None, None, None, None]


def test_objects_of_a_subset(folder):
    write(folder, {"objects": {f"00/{i}.png": [{**CAR, "box": [0, 0, 1, i + 1]}] for i in range(4)}})
    dataset = ImageFolderDataset(folder, max_size=2)
    raw = [dataset.get_details(i).raw_idx for i in range(2)]
    assert [dataset.get_objects(i)[0]["box"][3] - 1 for i in range(2)] == raw


def test_datasets_without_objects(folder):
    assert read_objects(open_archive(folder)) is None
    assert ImageFolderDataset(folder).get_objects(0) is None


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ([], 'must be {"objects":'),
        ({"objects": {"a": {}}}, 'must be {"objects":'),
        ({"objects": {"a": [{"category": 1, "box": [0, 0, 1, 1]}]}}, "delete the file to do without true boxes"),
        ({"objects": {"a": [{**CAR, "box": [0, 0, 1]}]}}, 'must be {"objects":'),
        ({"objects": {"a": [{**CAR, "box": [0, 0, 0, 1]}]}}, 'must be {"objects":'),
        ('{"objects": {"a": [{"category": "car", "box": [0, 0, 1, Infinity]}]}}', 'must be {"objects":'),
        ({"objects": {"a": [{**CAR, "box": [0, 0, True, 1]}]}}, 'must be {"objects":'),
    ],
)
def test_damaged_files_are_one_line(folder, content, text):
    write(folder, content)
    with pytest.raises(UserError) as error:
        read_objects(open_archive(folder))
    assert text in str(error.value)
    assert "objects.json" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("objects", [[], [CAR] * 3], ids=["empty lists", "objects"])
def test_memory_is_a_few_times_the_size_of_the_file(folder, objects):
    write(folder, {"objects": {f"{i}": objects for i in range(4_000)}})
    archive = open_archive(folder)
    tracemalloc.start()
    try:
        read_objects(archive)
        _now, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 6 * (folder / "objects.json").stat().st_size + (1 << 20)


@pytest.mark.parametrize("path", ["00\\1.png", "./00/1.png"])
def test_other_ways_to_write_a_path_are_understood(folder, path):
    write(folder, {"objects": {path: [CAR]}})
    assert read_objects(open_archive(folder)).get("00/1.png") == [CAR]


def test_the_file_may_lie_where_everything_lies(folder):
    (folder / "00" / "Objects.json").write_text(json.dumps({"objects": {"1.png": [CAR]}}))
    assert ImageFolderDataset(folder).get_objects(1) == [CAR]


def test_accents_may_be_composed_or_not(folder):
    write(folder, {"objects": {"A\u0308.png": [CAR]}})
    assert read_objects(open_archive(folder)).get("\u00c4.png") == [CAR]
