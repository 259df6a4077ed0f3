import pytest
import torch

from metrics.objects.boxes import longer_sides, matches, pairwise_iou, suppress_duplicates

A = torch.tensor([[0.0, 0, 4, 4], [10, 10, 12, 14]])


def test_overlap_of_all_pairs():
    b = torch.tensor([[2.0, 0, 6, 4], [0, 0, 4, 4], [20, 20, 21, 21]])
    assert pairwise_iou(A, b).tolist() == [[pytest.approx(8 / 24), 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_no_boxes_have_no_overlaps():
    assert pairwise_iou(A, torch.zeros(0, 4)).shape == (2, 0)


def test_longer_sides():
    assert longer_sides(A).tolist() == [4.0, 4.0]


def test_duplicates_of_a_category_are_suppressed_best_first():
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3.9], [0, 0, 4, 4], [8, 8, 9, 9]])
    scores, labels = torch.tensor([0.5, 0.9, 0.7, 0.6]), torch.tensor([1, 1, 2, 1])
    assert suppress_duplicates(boxes, scores, labels, max_iou=0.6, max_boxes=10).tolist() == [1, 2, 3]
    assert suppress_duplicates(boxes, scores, labels, max_iou=0.6, max_boxes=2).tolist() == [1, 2]


def test_a_suppressed_box_suppresses_nothing():
    boxes = torch.tensor([[0.0, 0, 10, 1], [3, 0, 13, 1], [6, 0, 16, 1]])  # neighbors overlap by 7/13, the ends by 4/16
    scores, labels = torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.int64)
    assert suppress_duplicates(boxes, scores, labels, max_iou=0.5, max_boxes=10).tolist() == [0, 2]


def test_each_true_box_has_one_match():
    truth = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 6]])
    boxes = torch.tensor([[0.0, 0, 4, 5.9], [0, 0, 4, 5.5], [0, 0, 4, 6], [50, 50, 60, 60]])
    assert matches(boxes, truth, 0.5) == [1, 0, -1, -1]
    assert matches(boxes, torch.zeros(0, 4), 0.5) == [-1] * 4
    assert matches(torch.zeros(0, 4), truth, 0.5) == []
