import math

import torch

from metrics.objects.accuracy import Accuracy, TrueObjects, accuracy
from metrics.objects.protocol import Detections


def found(*rows):
    boxes = torch.tensor([row[1:] for row in rows], dtype=torch.float32).reshape(-1, 4)
    return Detections(boxes, torch.ones(len(rows)), torch.tensor([row[0] for row in rows], dtype=torch.int64))


def truth(*rows):
    return TrueObjects(*(found(*rows)[i] for i in (0, 2)))


def test_counts_by_category():
    pairs = [
        (found((0, 0, 0, 10, 10), (1, 0, 0, 10, 10)), truth((0, 0, 0, 10, 9), (0, 50, 50, 60, 60))),
        (found(), truth((1, 0, 0, 10, 10))),
    ]
    rows = accuracy(pairs, 3, min_side_px=4)
    assert rows == [Accuracy(2, 1, 1, 1), Accuracy(1, 0, 1, 0), Accuracy()]
    assert (rows[0].recall, rows[0].precision, rows[1].recall, rows[1].precision) == (0.5, 1.0, 0.0, 0.0)
    assert math.isnan(rows[2].recall)
    assert math.isnan(rows[2].precision)


def test_small_objects_count_neither_as_true_nor_as_found():
    small, large = (0, 0, 0, 3, 3), (0, 20, 20, 30, 23)
    assert accuracy([(found(small, large), truth(small, large))], 1, min_side_px=4) == [Accuracy(1, 1, 1, 1)]


def test_a_large_box_around_a_small_object_is_right():
    assert accuracy([(found((0, 0, 0, 4, 4)), truth((0, 0, 0, 3.5, 3.5)))], 1, min_side_px=4) == [Accuracy(0, 0, 1, 1)]
