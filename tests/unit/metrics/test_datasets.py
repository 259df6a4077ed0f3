"""Datasets are closed at the end, whatever happens, if they can be."""

import pytest

from metrics.datasets import open_dataset


class Closable:
    def __init__(self, log):
        self.log = log

    def close(self):
        self.log.append("closed")


def fail_with(log):
    with open_dataset({"class_name": f"{__name__}.Closable", "log": log}) as dataset:
        assert dataset.log is log
        assert not log
        raise ZeroDivisionError


def test_a_dataset_is_closed_after_an_error():
    log = []
    with pytest.raises(ZeroDivisionError):
        fail_with(log)
    assert log == ["closed"]


def test_a_dataset_of_other_origin_need_not_be_closed():
    with open_dataset({"class_name": "collections.Counter"}) as dataset:
        assert dataset == {}
