import numpy as np
import pytest
from PIL import Image

from training.data.grid import save_image_grid, write_png


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


@pytest.mark.parametrize("shape", [(5, 3, 4, 4), (7, 3, 4, 4), (6, 2, 4, 4), (6, 4, 4)])
def test_images_that_make_no_grid_are_refused(tmp_path, shape):
    with pytest.raises(ValueError, match=r"^img must be \[6, 1 or 3, H, W\] for grid_size=\(3, 2\), got \["):
        save_image_grid(np.zeros(shape), tmp_path / "grid.png", (0, 255), (3, 2))
    assert not any(tmp_path.iterdir())


def test_values_are_rounded_within_the_range(tmp_path):
    step = 2 / 255
    nan, inf = np.nan, np.inf
    values = [-3, -1, -1 + 0.49 * step, -1 + 0.51 * step, 0.99 * step / 2, 1, 7, nan, inf, -inf]
    values = np.array(values, dtype=np.float32)
    image = saved(tmp_path / "grid.png", values.reshape(1, 1, 1, -1), (-1, 1), (1, 1))
    assert np.asarray(image).ravel().tolist() == [0, 0, 0, 1, 128, 255, 255, 0, 255, 0]


def test_an_image_is_replaced_in_one_step(tmp_path, monkeypatch):
    write_png(np.zeros([2, 2, 3], dtype=np.uint8), tmp_path / "a.png")
    monkeypatch.setattr("os.fsync", lambda _descriptor: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_png(np.ones([2, 2, 3], dtype=np.uint8), tmp_path / "a.png")
    assert np.asarray(Image.open(tmp_path / "a.png")).max() == 0
    assert len(list(tmp_path.iterdir())) == 1
