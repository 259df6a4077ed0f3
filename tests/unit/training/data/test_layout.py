import pytest

from dnnlib.errors import UserError
from tests.image_files import encode, images, random_image, write_folder, write_zip
from training.data import layout
from training.data.archive import open_archive
from training.data.codec import image_names
from training.data.layout import ImageLayout, common_layout, is_resolution


def layout_of(path):
    archive = open_archive(path)
    return common_layout(archive, image_names(archive))


@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_the_layout_that_all_share(tmp_path, write):
    assert layout_of(write(tmp_path / "set.zip", images(5))) == ImageLayout(8, 8, "RGB")
    assert layout_of(write(tmp_path / "grey.zip", images(2, mode="L"))) == ImageLayout(8, 8, "L")


def test_unreadable_images_are_left_to_training(tmp_path):
    files = {"a.png": b"", **images(2), "b.png": b"text"}
    assert layout_of(write_folder(tmp_path / "set", files)) == ImageLayout(8, 8, "RGB")


def test_headers_are_read_without_the_rest_of_the_file(tmp_path, monkeypatch):
    archive = open_archive(write_zip(tmp_path / "set.zip", images(3, size=(512, 512))))
    num_bytes = []
    handle = archive._handle()
    monkeypatch.setattr(archive, "_handle", lambda: CountingFile(handle, num_bytes))
    common_layout(archive, image_names(archive))
    assert sum(num_bytes) < 3 * 10_000 < len(archive.read(archive.names[0]))


class CountingFile:
    def __init__(self, file, num_bytes):
        self.seek = file.seek
        self._file = file
        self._num_bytes = num_bytes

    def read(self, size):
        data = self._file.read(size)
        self._num_bytes.append(len(data))
        return data


def many_images(count):
    return {f"{number:03d}.png": encode(random_image()) for number in range(count)}


@pytest.fixture
def opened(monkeypatch):
    """Names of the images whose header is read, of which every one is read up to 20 images, and 5 of more."""
    monkeypatch.setattr(layout, "MAX_HEADERS", 20)
    monkeypatch.setattr(layout, "NUM_SAMPLED_HEADERS", 5)
    names = []
    open_image = layout.open_image
    monkeypatch.setattr(layout, "open_image", lambda file: names.append(int(file.name[-7:-4])) or open_image(file))
    return names


@pytest.mark.parametrize(
    ("num_images", "expected"), [(1, [0]), (20, list(range(20))), (21, [0, 5, 10, 15, 20]), (101, [0, 25, 50, 75, 100])]
)
def test_of_many_images_a_sample_is_read(tmp_path, opened, num_images, expected):
    layout_of(write_folder(tmp_path / "set", many_images(num_images)))
    assert opened == expected


@pytest.mark.parametrize("odd", [0, 50, 100])
def test_an_odd_image_of_the_sample_is_refused(tmp_path, opened, odd):
    files = many_images(101)
    files[f"{odd:03d}.png"] = encode(random_image(size=(16, 16)))
    with pytest.raises(
        UserError, match=r" is (16x16|8x8) RGB, the first .*; training needs .* python dataset_tool\.py"
    ):
        layout_of(write_folder(tmp_path / "set", files))


def test_other_odd_images_are_left_to_training(tmp_path, opened):
    files = many_images(101)
    files["003.png"] = encode(random_image(size=(16, 16)))
    assert layout_of(write_folder(tmp_path / "set", files)) == ImageLayout(8, 8, "RGB")


def test_resolutions():
    assert [side_px for side_px in range(10_000) if is_resolution(side_px)] == [2**i for i in range(2, 13)]


def test_names_are_escaped(tmp_path):
    files = {"a\x1b[2J.png": encode(random_image(size=(9, 9)))}
    with pytest.raises(UserError, match=r"'a\\x1b\[2J\.png' is 9x9 RGB"):
        layout_of(write_folder(tmp_path / "set", files))
