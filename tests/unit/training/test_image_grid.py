import numpy as np
import pytest
from PIL import Image

from training.data.grid import save_image_grid, write_png
from training.dataset import Dataset
from training.image_grid import grid_size, setup_snapshot_image_grid


class Numbered(Dataset):
    """Image i is i everywhere."""

    def __init__(self, num, labels=None, side_px=1024):
        self.labels = labels
        super().__init__("numbered", [num, 3, side_px, side_px], use_labels=labels is not None)

    def _load_raw_image(self, raw_idx):
        return np.full(self.image_shape, raw_idx, dtype=np.uint8)

    def _load_raw_labels(self):
        return self.labels


def chosen(dataset, **kwargs):
    """Indices of the images in a grid, row by row."""
    (columns, rows), images, labels = setup_snapshot_image_grid(dataset, **kwargs)
    assert images.dtype == np.uint8
    assert images.shape == (columns * rows, *dataset.image_shape)
    assert labels.shape == (columns * rows, dataset.label_dim)
    return images[:, 0, 0, 0].reshape(rows, columns), labels


@pytest.mark.parametrize(
    ("side_px", "size"),
    [(4, (32, 32)), (128, (32, 32)), (256, (30, 16)), (512, (15, 8)), (1024, (7, 4)), (4096, (7, 4))],
)
def test_size(side_px, size):
    assert grid_size(side_px, side_px) == size


def test_images_are_those_of_a_fixed_shuffle():
    order = np.arange(100)
    np.random.RandomState(0).shuffle(order)
    indices, _labels = chosen(Numbered(100))
    assert indices.ravel().tolist() == order[: 7 * 4].tolist()
    assert not np.array_equal(chosen(Numbered(100), random_seed=1)[0], indices)


def test_a_small_dataset_is_repeated():
    indices, _labels = chosen(Numbered(5))
    assert sorted(indices.ravel()[:5]) == list(range(5))
    assert np.array_equal(indices.ravel()[:5], indices.ravel()[5:10])


def test_one_label_per_row_in_order():
    """Three rows have the three labels, the fourth begins again."""
    indices, labels = chosen(Numbered(90, labels=np.arange(90, dtype=np.int64) % 3))
    rows = labels.reshape(4, 7, 3).argmax(2)
    assert (rows == rows[:, :1]).all()
    assert len(set(rows[:3, 0])) == 3
    assert rows[3, 0] == rows[0, 0]
    assert np.array_equal(indices % 3, rows)
    assert len(set(indices[0])) == 7


def test_a_label_with_few_images_fills_its_row():
    indices, labels = chosen(Numbered(20, labels=np.array([0] * 18 + [1] * 2, dtype=np.int64)))
    rows = labels.reshape(4, 7, 2).argmax(2)[:, 0].tolist()
    assert sorted(rows) == [0, 0, 1, 1]
    assert set(indices[rows.index(1)]) == {18, 19}


def test_labels_that_are_vectors():
    vectors = np.array([[0.5, 1.0], [-1.0, 0.0]], dtype=np.float32).repeat(10, axis=0)
    _indices, labels = chosen(Numbered(20, labels=vectors))
    assert all(len(np.unique(row, axis=0)) == 1 for row in labels.reshape(4, 7, 2))


def saved(path, images, drange, size):
    save_image_grid(images, path, drange, size)
    return Image.open(path)


def test_every_pixel_is_where_it_belongs(tmp_path):
    images = np.random.RandomState(0).randint(256, size=[6, 3, 4, 4], dtype=np.uint8)
    image = saved(tmp_path / "grid.png", images, (0, 255), (3, 2))
    assert (image.mode, image.size) == ("RGB", (12, 8))
    pixels = np.asarray(image)
    for number in range(6):
        top, left = number // 3 * 4, number % 3 * 4
        assert np.array_equal(pixels[top : top + 4, left : left + 4], images[number].transpose(1, 2, 0))


def test_grey_images_stay_grey(tmp_path):
    images = np.arange(2 * 4, dtype=np.uint8).reshape(2, 1, 2, 2) * 30
    image = saved(tmp_path / "grid.png", images, (0, 255), (1, 2))
    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), images[:, 0].reshape(4, 2))


def test_values_are_rounded_within_the_range(tmp_path):
    step = 2 / 255
    values = np.array([-3, -1, -1 + 0.49 * step, -1 + 0.51 * step, 0.99 * step / 2, 1, 7], dtype=np.float32)
    image = saved(tmp_path / "grid.png", values.reshape(1, 1, 1, -1), (-1, 1), (1, 1))
    assert np.asarray(image).ravel().tolist() == [0, 0, 0, 1, 128, 255, 255]


def test_an_image_is_replaced_in_one_step(tmp_path, monkeypatch):
    write_png(np.zeros([2, 2, 3], dtype=np.uint8), tmp_path / "a.png")
    monkeypatch.setattr("os.fsync", lambda _descriptor: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_png(np.ones([2, 2, 3], dtype=np.uint8), tmp_path / "a.png")
    assert np.asarray(Image.open(tmp_path / "a.png")).max() == 0
    assert len(list(tmp_path.iterdir())) == 1
