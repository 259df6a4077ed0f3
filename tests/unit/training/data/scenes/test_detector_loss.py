import math

import pytest
import torch

from metrics.objects.scene_detector import CATEGORIES
from training.data.scenes.detector_loss import detection_loss, gaussians, generalized_iou

BOXES = torch.tensor([[10.0, 20, 30, 28], [60, 60, 64, 64], [1, 1, 2, 2]])
CELLS = [(12, 10), (31, 31), (0, 0)]
"""Rows and columns of the centers."""


def test_a_gaussian_per_box_is_1_in_the_cell_of_its_center():
    maps, is_center = gaussians(BOXES)
    assert is_center.nonzero().tolist() == [[i, *cell] for i, cell in enumerate(CELLS)]
    # 20 and 8 px are 10 and 4 cells: the deviations are 0.9 along x and, at least, 0.4 along y.
    assert maps[0, 12, 12] == pytest.approx(math.exp(-(2**2) / (2 * 0.9**2)))
    assert maps[0, 13, 10] == pytest.approx(math.exp(-(1**2) / (2 * 0.4**2)))


def test_generalized_overlap():
    a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 2, 2]])
    b = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2], [3, 0, 4, 2]])
    expected = [1.0, 2 / 6, 0 - 2 / 8]  # the last two lie in a hull of 8, of which 6 are theirs
    assert generalized_iou(a, b).tolist() == pytest.approx(expected)


def outputs(boxes, labels, sure):
    """What a network would say that knows the truth: scores of +-``sure`` and the right box everywhere near."""
    logits = torch.full((1, len(CATEGORIES), 32, 32), -sure)
    predicted = torch.zeros(1, len(CATEGORIES), 4, 32, 32)
    maps, is_center = gaussians(boxes)
    for label in set(labels.tolist()):
        own = labels == label
        predicted[0, label] = boxes[own][maps[own].argmax(dim=0)].permute(2, 0, 1)
    for label, center in zip(labels, is_center, strict=True):
        logits[0, label][center] = sure
    return logits, predicted


def test_the_truth_has_no_loss_and_everything_else_has():
    labels = torch.tensor([2, 4, 4])
    logits, predicted = outputs(BOXES, labels, sure=20.0)
    assert detection_loss(logits, predicted, [BOXES], [labels]) < 1e-6
    assert detection_loss(logits, predicted, [BOXES], [labels.flip(0)]) > 1
    assert detection_loss(logits, predicted + 4, [BOXES], [labels]) > 0.1


def test_focal_loss_by_its_formula():
    labels = torch.tensor([2])
    box = BOXES[:1]
    logits, predicted = outputs(box, labels, sure=20.0)
    logits[0, 2, 12, 10] = 0.0  # p = 0.5 in the center
    logits[0, 2, 12, 11] = 0.0  # and beside it, where the target is the Gaussian
    heat = gaussians(box)[0][0, 12, 11]
    expected = -(0.5**2) * math.log(0.5) * (1 + (1 - heat) ** 4)
    assert float(detection_loss(logits, predicted, [box], [labels])) == pytest.approx(float(expected), rel=1e-4)


def test_images_of_a_batch_do_not_mix():
    labels = [torch.tensor([2]), torch.tensor([], dtype=torch.int64), torch.tensor([4, 4])]
    boxes = [BOXES[:1], BOXES[:0], BOXES[1:]]
    parts = [outputs(one, label, sure=20.0) for one, label in zip(boxes[::2], labels[::2], strict=True)]
    empty = (torch.full_like(parts[0][0], -20.0), torch.zeros_like(parts[0][1]))
    logits, predicted = (torch.cat([parts[0][i], empty[i], parts[1][i]]) for i in (0, 1))
    assert detection_loss(logits, predicted, boxes, labels) < 1e-6
