import contextlib
import json

import pytest

from training.data.records import Records

NAMES = [f"00000/img0000000{number}.png" for number in range(3)]


def saved(folder, rows, metadata=None, new_numbers=None):
    """Files that are written for images with (label, file, objects)."""
    files = {}
    with contextlib.closing(Records(folder)) as records:
        for name, row in zip(NAMES, rows, strict=False):
            records.add(name, *row)
        records.save(lambda name, file: files.update({name: read(file)}), metadata or {}, new_numbers)
    return files


def read(file):
    file.seek(0)
    return file.read()


def encoded(content):
    return json.dumps(content).encode()


@pytest.mark.parametrize("labels", [[3, 0, 3], [[0.5, -1], [1e-9, 2.0], [3, 4]]])
def test_labels(tmp_path, labels):
    files = saved(tmp_path, [(label, None, None) for label in labels])
    assert files == {"dataset.json": encoded({"labels": [[*pair] for pair in zip(NAMES, labels, strict=True)]})}


def test_new_class_numbers(tmp_path):
    files = saved(tmp_path, [(label, None, None) for label in (3, 7, 3)], new_numbers={3: 0, 7: 1})
    assert [label for _, label in json.loads(files["dataset.json"])["labels"]] == [0, 1, 0]


def test_no_labels(tmp_path):
    assert saved(tmp_path, [(None, None, None)]) == {"dataset.json": encoded({"labels": None})}


def test_other_metadata(tmp_path):
    metadata = {"class_names": ["\u00fc", 'a"b'], "resize_filter": "box"}
    assert saved(tmp_path, [(None, None, None)], metadata)["dataset.json"] == encoded({"labels": None, **metadata})
    with_labels = saved(tmp_path, [(0, None, None)], metadata)["dataset.json"]
    assert with_labels == encoded({"labels": [[NAMES[0], 0]], **metadata})


def test_source_files(tmp_path):
    """Also those whose names are not text."""
    files = saved(tmp_path, [(None, name, None) for name in ("a\nb.jpg", "\u00fc", "\udcff")])
    lines = files["sources.jsonl"].decode("ascii").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"image": NAMES[0], "file": "a\nb.jpg"},
        {"image": NAMES[1], "file": "\u00fc"},
        {"image": NAMES[2], "file": "\udcff"},
    ]


def test_objects(tmp_path):
    objects = [[{"category": "car", "box": [1, 2, 3, 4.5]}], []]
    files = saved(tmp_path, [(None, None, each) for each in objects])
    assert files["objects.json"] == encoded({"objects": dict(zip(NAMES, objects, strict=False))})
