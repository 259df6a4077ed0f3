"""Datasets that are open for as long as they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dnnlib.object_names import construct_class_by_name


@contextmanager
def open_dataset(dataset_kwargs: Mapping[str, Any]) -> Iterator[Any]:
    """Construct a dataset, and close it at the end if it can be closed, which datasets of other origin may not support.

    Args:
        dataset_kwargs: ``class_name`` and its keywords.
    """
    dataset = construct_class_by_name(**dataset_kwargs)
    try:
        yield dataset
    finally:
        if hasattr(dataset, "close"):
            dataset.close()
