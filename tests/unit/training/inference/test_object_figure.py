import numpy as np
import pytest
import torch
from PIL import ImageDraw

from dnnlib.errors import UserError
from metrics.objects.protocol import Detections
from training.inference.object_figure import COLUMNS, check_images, chosen_categories, find_objects, object_figure

CATEGORIES = ("car", "street light", "tree")
RED = (255, 64, 64)


class Finder:
    name, categories, sha256, min_side_px = "finder", CATEGORIES, "", 0.0

    def detect(self, img):
        assert (img.dtype, img.shape[1]) == (torch.uint8, 3)
        return [objects((0, 0.9, (8, 4, 24, 20)), (0, 0.9, (0, 0, 1, 1)), (1, 0.1, (0, 0, 32, 32))) for _ in img]


def objects(*rows):
    labels, scores, boxes = zip(*rows, strict=True) if rows else ((), (), ())
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Detections(boxes, torch.tensor(scores, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64))


def images(num, channels=3):
    return [np.full((32, 32, channels), 10 * i, np.uint8) for i in range(num)]


@pytest.mark.parametrize("channels", [1, 3])
def test_finds_what_counts_for_metrics(channels):
    found = find_objects(images(20, channels), Finder())
    assert len(found) == 20
    assert found[0].boxes.tolist() == [[8, 4, 24, 20]]


def draw(pictures, found, labels):
    figure = object_figure(pictures, [f"seed{i:04d}" for i in range(len(pictures))], found, labels, CATEGORIES)
    return None if figure is None else np.asarray(figure)


def cells(figure):
    """Rows of images without the lines of text and the gaps."""
    rows = np.split(figure[6:], range(192 + 34, len(figure) - 6, 192 + 34))
    return [np.split(row[14 : 14 + 192, 6:], range(198, figure.shape[1] - 6, 198), axis=1) for row in rows]


def test_a_row_per_category_with_the_surest_images_first():
    found = [objects((0, 0.5 + i / 100, (8, 4, 24, 20))) for i in range(9)] + [objects((2, 0.9, (0, 0, 32, 16)))]
    figure = draw(images(10), found, [0, 1, 2])
    assert figure.shape == (6 + 2 * (192 + 34), 6 + COLUMNS * 198, 3)  # 32 px enlarged six times; no street lights
    cars, trees = cells(figure)
    assert [cell[96, 96, 0] for cell in cars] == [80, 70, 60, 50, 40, 30]  # inside the boxes
    assert trees[0][150, 96].tolist() == [90, 90, 90]
    assert (trees[1] == 255).all()


def test_the_figure_is_as_wide_as_its_longest_row():
    found = [objects((0, 0.9, (8, 4, 24, 20))), objects((2, 0.9, (8, 4, 24, 20)), (0, 0.8, (0, 0, 9, 9)))]
    assert draw(images(2), found, [0, 2]).shape[1] == 6 + 2 * 198


def test_texts_name_the_category_the_image_and_its_score(monkeypatch):
    texts = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, corner, text, fill: texts.append((corner, text)))
    draw(images(3), [objects(), objects((2, 0.5, (8, 4, 24, 20))), objects((2, 0.75, (8, 4, 24, 20)))], [2])
    assert texts == [
        ((6, 6), "tree: 2 of 3 images"),
        ((6, 6 + 14 + 192), "seed0002, score 0.75"),
        ((6 + 198, 6 + 14 + 192), "seed0001, score 0.50"),
    ]


def test_boxes_are_outlined():
    [[cell]] = cells(draw(images(1), [objects((0, 0.9, (8, 4, 24, 20)))], [0]))
    is_red = (cell == RED).all(axis=2)
    rows, columns = is_red.nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (24, 119, 48, 143)
    assert is_red[24, 48:144].all()
    assert not is_red[30:110, 60:130].any()


def test_nothing_to_draw():
    assert draw(images(1), [objects()], [0]) is None


@pytest.mark.parametrize(("resolution_px", "num_channels", "most"), [(32, 3, 4096), (1024, 1, 4096), (1024, 3, 1365)])
def test_images_are_limited_by_their_number_and_their_bytes(resolution_px, num_channels, most):
    check_images(most, resolution_px, num_channels)
    said = f"^--boxes chooses among at most {most} images of {resolution_px} px, got {most + 1}: give fewer$"
    with pytest.raises(UserError, match=said):
        check_images(most + 1, resolution_px, num_channels)


def test_categories():
    assert chosen_categories("all", Finder()) == [0, 1, 2]
    assert chosen_categories("tree, car,tree", Finder()) == [2, 0]
    with pytest.raises(UserError, match="finder does not know 'bus', only car, street light, tree"):
        chosen_categories("bus", Finder())
