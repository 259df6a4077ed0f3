import json
import tracemalloc

import numpy as np
import pytest

from dnnlib.errors import UserError
from tests.image_files import packed_zip, write_folder, write_zip
from training.data import json_stream
from training.data.archive import open_archive
from training.data.labels import (
    MAX_CLASSES,
    class_folder,
    describe_labels,
    labels_from_subfolders,
    rank_labels,
    read_labels,
    unread_labels,
)
from training.data.names import Names, encode_name

NAMES = ["a/1.png", "a/2.png", "b/3.png"]


def labels_of(names):
    return json.dumps({"labels": [[name, number] for number, name in enumerate(names)]}).encode()


def read(path, content, names=NAMES):
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return read_labels(open_archive(write_folder(path, {"dataset.json": data})), names)


def test_class_numbers_come_in_the_order_of_the_images(tmp_path):
    labels = read(tmp_path, {"labels": [["b/3.png", 7], ["a/1.png", 0], ["a/2.png", 2]], "class_names": ["x"]})
    assert (labels.as_array().tolist(), labels.class_names) == ([0, 2, 7], ["x"])
    assert labels.as_array().dtype == np.int64
    assert [labels[index] for index in range(3)] == [0, 2, 7]
    assert type(labels[0]) is int


def test_vectors(tmp_path):
    labels = read(tmp_path, {"labels": [[name, [0.5, position]] for position, name in enumerate(NAMES)]})
    assert labels.as_array().dtype == np.float32
    assert labels.as_array().tolist() == [[0.5, 0], [0.5, 1], [0.5, 2]]


def test_vectors_keep_their_digits(tmp_path):
    labels = read(tmp_path, {"labels": [["a/2.png", [0.1, 123456789]], ["a/1.png", [-0.25, 1]]]}, NAMES[:2])
    assert [json.dumps(labels[index]) for index in range(2)] == ["[-0.25, 1]", "[0.1, 123456789]"]


def test_any_order(tmp_path):
    names = [f"{number:03d}.png" for number in range(100)]
    order = np.random.RandomState(0).permutation(120)
    entries = [[f"{number:03d}.png", int(number) * 7] for number in order]
    assert read(tmp_path, {"labels": entries}, names).as_array().tolist() == [number * 7 for number in range(100)]


@pytest.mark.parametrize("path", ["a\\1.png", "./a/1.png", ".\\a\\1.png", "a//1.png", "a/./1.png", "b/../a/1.png"])
def test_other_ways_to_write_a_path_are_understood(tmp_path, path):
    assert read(tmp_path, {"labels": [[path, 3]]}, ["a/1.png"])[0] == 3


@pytest.mark.parametrize("place", ["Dataset.JSON", "set/dataset.json", "set/DATASET.json", "sets/my set/dataset.json"])
def test_the_file_may_lie_where_everything_lies_in_any_case(tmp_path, place):
    folder, _slash, _name = place.rpartition("/")
    names = [f"{folder}/{name}".lstrip("/") for name in NAMES]
    files = {**dict.fromkeys(names, b""), place: labels_of(NAMES), ".hidden": b"", "__MACOSX/._a": b""}
    for path in (write_folder(tmp_path / "in", files), write_zip(tmp_path / "in.zip", files)):
        archive = open_archive(path)
        assert read_labels(archive, names).as_array().tolist() == [0, 1, 2]
        assert unread_labels(archive) is None


@pytest.mark.parametrize("place", ["dataset.json", "set/dataset.json"])
def test_the_file_of_the_exact_name_comes_first(tmp_path, place):
    names = [f"set/{name}" for name in NAMES]
    files = {**dict.fromkeys([*names, "set/DATASET.json", "set/Dataset.json", "set/dataset.json"], b"")}
    files[place] = labels_of(NAMES if place.startswith("set") else names)
    assert read_labels(open_archive(write_folder(tmp_path, files)), names).as_array().tolist() == [0, 1, 2]


def test_a_file_beside_which_not_all_images_lie_is_named(tmp_path):
    files = {"a/1.png": b"", "a/dataset.json": labels_of(["1.png"]), "b/3.png": b"", "b/.c/dataset.json": b""}
    archive = open_archive(write_folder(tmp_path, files))
    assert read_labels(archive, ["a/1.png", "b/3.png"]) is None
    assert unread_labels(archive).startswith("the labels in a/dataset.json are not read, because not all files lie in")


def test_a_large_file_is_read_wherever_it_lies(tmp_path, monkeypatch):
    monkeypatch.setattr("training.data.folder_archive.MAX_FILE_BYTES", 10)
    monkeypatch.setattr("training.data.zip_archive.MAX_UNPACKED_BYTES", 10)
    files = {"a/1.png": b"", "a/Dataset.json": labels_of(["1.png"])}
    for path in (write_folder(tmp_path / "in", files), packed_zip(tmp_path / "in.zip", files)):
        assert read_labels(open_archive(path), ["a/1.png"])[0] == 0


def test_labels_of_absent_images_are_ignored(tmp_path):
    assert read(tmp_path, {"labels": [["a/1.png", 3], ["gone.png", 4]]}, ["a/1.png"])[0] == 3


@pytest.mark.parametrize("content", [{"labels": None}, {"labels": []}, {}])
def test_no_labels(tmp_path, content):
    assert read(tmp_path, content) is None


def test_no_file(tmp_path):
    assert read_labels(open_archive(tmp_path), NAMES) is None


def test_the_error_shows_how_the_paths_are_written(tmp_path):
    with pytest.raises(
        UserError, match=r"have no label: a/1\.png; label them, .*\(it begins with /home/me/1\.png\), or"
    ):
        read(tmp_path, {"labels": [["/home/me/1.png", 1]]}, ["a/1.png"])


def test_unlabeled_images_are_counted_and_listed(tmp_path):
    names = [f"{number}.png" for number in range(9)]
    with pytest.raises(UserError, match=r"8 of 9 images have no label: 1\.png, 2\.png, .*5\.png, \.\.\."):
        read(tmp_path, {"labels": [["0.png", 1]]}, names)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "cannot be read as JSON"),
        (b"\xff\xfe\xfd", "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        ([], "holds no object"),
        (b"1 2", "cannot be read as JSON: something follows the end at character 2"),
        ({"labels": {"a": 1}}, "'labels' is a dict"),
        ({"labels": [["a/1.png", 0], ["a/2.png"]]}, r"labels\[1\] is \[\"a/2.png\"\]"),
        ({"labels": [["a", -1]]}, r"labels\[0\]"),
        ({"labels": [["a", 0.5]]}, r"labels\[0\]"),
        ({"labels": [["a", True]]}, r"labels\[0\]"),
        ({"labels": [["a", "cat"]]}, r"labels\[0\]"),
        ({"labels": [["a", []]]}, r"labels\[0\]"),
        ({"labels": [["a", [1, None]]]}, r"labels\[0\]"),
        (b'{"labels": [["a", [NaN]]]}', r"labels\[0\]"),
        ({"labels": [[3, 0]]}, r"labels\[0\]"),
        ({"labels": [["a", 0], ["b", [0]]]}, r"labels\[1\] is of another kind"),
        ({"labels": [["a", [1, 2]], ["b", [0]]]}, r"labels\[1\] is of another kind"),
        ({"labels": [["a", 0], ["b", 0], ["a", 1]]}, "1 of 3 images are listed more than once"),
        ({"labels": [["a", MAX_CLASSES]]}, r"labels\[0\] is class 100000, but class numbers must be below 100000"),
        ({"labels": [["a", 20230000]]}, r"labels\[0\] is class 20230000, .*number the classes 0, 1, 2"),
        ({"labels": [["a", 10**400]]}, r"labels\[0\] is class 10{96}\.\.\., but"),
        ({"labels": [["a", -(10**400)]]}, r"labels\[0\] is \[\"a\", -10{95}\.\.\.\], allowed:"),
        ({"labels": [["a", [0, 1e300]]]}, r"labels\[0\] contains 1e\+300, allowed: numbers from -1e\+09 to 1e\+09"),
        ({"labels": [["a", [-1.1e9]]]}, r"labels\[0\] contains -1100000000.0, allowed:"),
        ({"labels": [["a", [10**400]]]}, r"labels\[0\] contains 10{96}\.\.\., allowed:"),
        (b'{"labels": [["a", [1e999]]]}', r"labels\[0\] contains Infinity, allowed:"),
        ({"labels": [["a", [[[[[1]]]]]]]}, r"labels\[0\] contains a list of length 1, allowed:"),
        (
            {"labels": [[["a"] * 99, 0, {"b": 1}, "c"]]},
            r"is \[a list of length 99, 0, a dict of length 1\], allowed:",
        ),
        ({"labels": [["\x1b[2J" + "a" * 10**6, 0.5]]}, r'is \["\\u001b\[2Ja{87}\.\.\., 0\.5\], allowed:'),
        ({"labels": [[name, 0] for name in NAMES], "class_names": 3}, "'class_names' must be a list of strings"),
        ({"labels": [[name, 0] for name in NAMES], "class_names": [3]}, "'class_names' must be a list of strings"),
    ],
)
def test_malformed_files_are_refused_in_one_line(tmp_path, content, reason):
    with pytest.raises(UserError, match=f"dataset.json.*{reason}") as caught:
        read(tmp_path, content)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < len(str(tmp_path)) + 400


def test_the_largest_labels(tmp_path):
    assert read(tmp_path, {"labels": [["a", MAX_CLASSES - 1]]}, ["a"])[0] == MAX_CLASSES - 1
    labels = read(tmp_path, {"labels": [["a", [1e9, -1000000000]]]}, ["a"]).as_array()
    assert np.isfinite(np.square(labels)).all()


def test_labels_in_a_zip(tmp_path):
    archive = open_archive(write_zip(tmp_path / "x.zip", {}, labels=[["a", 1]]))
    assert read_labels(archive, ["a"])[0] == 1


def test_names_in_messages_are_escaped(tmp_path):
    with pytest.raises(UserError, match=r"1 of 1 images have no label: '\\x1b\[2J\.png'"):
        read(tmp_path, {"labels": [["a", 1]]}, ["\x1b[2J.png"])


def long_labels(num):
    """Contents of ``dataset.json`` that take much memory if they are built whole; names of images, and the content."""
    names = [f"{number:06d}.png" for number in range(num)]
    emoji = [f"{number}\U0001f600.png" for number in range(num)]
    one_hot = [[name, [0] * 99 + [1]] for name in names[: num // 30]]
    return {
        "class numbers": (names, {"labels": [[name, 7] for name in names]}),
        "reversed": (names, {"labels": [[name, 7] for name in reversed(names)]}),
        "emoji": (emoji, {"labels": [[name, 7] for name in emoji]}),
        "one emoji": (names, {"labels": [[name, 7] for name in [*names, *emoji[:1]]]}),
        "absent images": ([], {"labels": [[f"{number:x}", 7] for number in range(num)]}),
        "one-hot vectors": (names[: num // 30], {"labels": one_hot}),
        "reversed vectors": (names[: num // 30], {"labels": one_hot[::-1]}),
        "lists": (names[:1], {"labels": [[names[0], 1]], "other": [[]] * num}),
        "objects": (names[:1], {"labels": [[names[0], 1]], "other": [{}] * num}),
        "keys": (names[:1], {"labels": [[names[0], 1]], "other": {f"{number:x}": 0 for number in range(num)}}),
        "top keys": (names[:1], {"labels": [[names[0], 1]], **{f"{number:x}": 0 for number in range(num)}}),
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
@pytest.mark.parametrize("kind", [*long_labels(30)])
def test_memory_is_a_small_multiple_of_the_file(tmp_path, monkeypatch, kind, encoding):
    """Less than 10 times its size, with what the labels themselves take."""
    monkeypatch.setattr(json_stream, "_CHUNK_BYTES", 1 << 10)
    names, content = long_labels(3000)[kind]
    packed = Names.of(sorted(map(encode_name, names)))
    data = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode(encoding)
    archive = open_archive(write_folder(tmp_path, {"dataset.json": data}))
    read_labels(archive, packed)
    tracemalloc.start()
    labels = read_labels(archive, packed)
    labels = labels and labels.as_array()
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 10 * len(data)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 1, 1, 0], "2 classes with 2 images each"),
        ([0, 1, 1], "2 classes with 1 to 2 images each"),
        ([0, 7, 40, 40], "41 classes with 1 to 2 images each, but none in 38 of them: 1 to 6, 8 to 39"),
        ([1, 3], "4 classes with 1 image each, but none in 2 of them: 0, 2"),
        (list(range(1, 99, 2)), "98 classes with 1 image each, but none in 49 of them: 0, 2, 4, 6, 8, ..."),
    ],
)
def test_class_numbers_in_words(labels, words):
    assert describe_labels(np.array(labels)) == words


def test_vectors_in_words():
    assert describe_labels(np.zeros([3, 512], np.float32)) == "vectors of 512 numbers"


def test_subfolders():
    labels = labels_from_subfolders(["cat/x/1.png", "ape/1.png", "cat/2.png"])
    assert (labels.as_array().tolist(), labels.class_names) == ([1, 0, 1], ["ape", "cat"])


@pytest.mark.parametrize(
    ("names", "folder"),
    [
        (["ape/1.png", "cat/2.png"], ""),
        (["in/ape/1.png", "in/cat/2.png"], "in/"),
        (["x/in/ape/1.png", "x/in/cat/2.png"], "x/in/"),
        (["in/ape/1.png", "in/2.png"], ""),
        (["in/ape/1.png", "in/ape/2.png"], ""),
    ],
)
def test_classes_may_lie_in_one_folder(names, folder):
    names = Names.of(sorted(map(encode_name, names)))
    assert class_folder(names) == folder
    expected = ["ape", "cat"] if "cat" in names[1] else ["in"]
    assert labels_from_subfolders(names, folder).class_names == expected


def test_images_outside_subfolders_are_listed():
    with pytest.raises(
        UserError,
        match=r"^the class of an image is its subfolder, and 1 of 2 lie in none: 1\.png; .*dataset_tool\.py without",
    ):
        labels_from_subfolders(["1.png", "cat/2.png"])


def test_folders_named_by_numbers_keep_them():
    labels = labels_from_subfolders([f"{number}/x.png" for number in ("0", "1", "10", "11", *"23456789")])
    assert labels.class_names == [str(number) for number in range(12)]
    assert labels.values.tolist() == [0, 1, 10, 11, *range(2, 10)]
    assert labels_from_subfolders(["10/x.png", "9/x.png", "a/x.png"]).class_names == ["10", "9", "a"]


def test_accents_may_be_composed_or_not(tmp_path):
    composed, apart = "\u00c4.png", "A\u0308.png"
    for number, (listed, name) in enumerate([(composed, apart), (apart, composed)]):
        labels = read(tmp_path / str(number), {"labels": [["b.png", 0], [listed, 1]]}, [name, "b.png"])
        assert labels.as_array().tolist() == [1, 0]


def test_ranks_are_in_the_order_of_bytes():
    labels = np.array([[0.0, 1.0], [-0.0, 1.0], [0.0, 0.5], [0.0, 1.0]], np.float32)
    keys = [label.tobytes() for label in labels]
    assert rank_labels(labels).tolist() == [sorted(set(keys)).index(key) for key in keys]
    assert len(set(rank_labels(labels))) == 3
