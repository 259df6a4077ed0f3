from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Optional

import pytest
import torch

from dnnlib.errors import UserError
from training.run.json_types import check_type


@pytest.mark.parametrize(
    ("hint", "values"),
    [
        (int, [0, -3]),
        (float, [0, 0.5]),
        (bool, [True]),
        (str, ["", "x"]),
        (int | None, [1, None]),
        (Optional[float], [1.5, None]),  # noqa: UP045 (as older packages write it)
        (float | torch.Tensor, [1]),
        (list[str], [[], ["a", "b"]]),
        (tuple[str, ...], [["a"], ("a", "b")]),
        (tuple[float, float], [[0, 0.99]]),
        (Sequence[int], [[1, 2]]),
        (tuple, [[1, "a"]]),
        (tuple[()], [[]]),
        (dict[str, Any], [{}, {"a": [1]}]),
        (Mapping[str, int], [{"a": 1}]),
        (list, [["a", 1]]),
        (Any, [1, None, "x"]),
        (Path | None, ["a/b", None]),
        (torch.device, ["cpu"]),
        (Literal["a", "b"], ["a"]),
    ],
)
def test_values_of_the_right_type(hint, values):
    for value in values:
        check_type(value, hint, "options.json: x")


@pytest.mark.parametrize(
    ("hint", "value", "said"),
    [
        (int, 0.5, "is 0.5, allowed: a whole number"),
        (int, True, "is true, allowed: a whole number"),
        (float, "0.002", 'is "0.002", allowed: a number'),
        (float | None, [1], "is [1], allowed: a number or null"),
        (float | torch.Tensor, None, "is null, allowed: a number"),
        (bool, 1, "is 1, allowed: true or false"),
        (str, {}, "is {}, allowed: a string"),
        (tuple, 3, "is 3, allowed: a list"),
        (dict[str, Any], "x", 'is "x", allowed: an object in braces'),
        (list[str], ["a", 1], 'is ["a", 1], allowed: a list [a string, ...]'),
        (list[str], "a", 'is "a", allowed: a list [a string, ...]'),
        (tuple[float, float], [0.5], "is [0.5], allowed: a list [a number, a number]"),
        (torch.Tensor, [1], "is [1], allowed: nothing"),
        (str, ["\x1b[2J" * 1000], "allowed: a string"),
    ],
)
def test_values_of_the_wrong_type(hint, value, said):
    with pytest.raises(UserError) as caught:
        check_type(value, hint, "options.json: x")
    line = str(caught.value)
    assert line.startswith("options.json: x is ")
    assert line.endswith(said)
    assert line.isprintable()
    assert len(line) < 1000
