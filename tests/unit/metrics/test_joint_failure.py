"""As one of two processes sees it; what they exchange is scripted."""

import contextlib

import pytest

from dnnlib.errors import UserError
from metrics.joint_failure import OtherProcessError, entered_together, fails_together, in_step, result_of_rank0
from torch_utils import distributed


@pytest.fixture
def other(monkeypatch):
    """What the other process says in each exchange; `said` is what this one says."""
    script = {"fails": [], "outcome": (None, None), "said": []}

    def any_process(flag):
        script["said"].append(flag)
        return script["fails"].pop(0) or flag

    monkeypatch.setattr(distributed, "any_process", any_process)
    monkeypatch.setattr(distributed, "gather", lambda outcome: [script["outcome"], outcome])
    return script


def fail(error):
    raise error


def test_a_failure_elsewhere_ends_the_block_here(other):
    other["fails"] = [True]
    with pytest.raises(OtherProcessError, match="another process failed"), fails_together(2):
        pass
    assert other["said"] == [False]


@pytest.mark.parametrize("fails_elsewhere", [True, False])
def test_a_failure_here_is_told_and_stays_what_it_is(other, fails_elsewhere):
    other["fails"] = [fails_elsewhere]
    with pytest.raises(ZeroDivisionError), fails_together(2):
        fail(ZeroDivisionError())
    assert other["said"] == [True]


def test_without_failures_the_block_goes_on(other):
    other["fails"] = [False]
    with fails_together(2):
        pass
    assert other["said"] == [False]


def test_a_single_process_exchanges_nothing(other):
    with fails_together(1):
        pass
    with pytest.raises(ZeroDivisionError), fails_together(1):
        fail(ZeroDivisionError())
    assert result_of_rank0(lambda: 3, 1) == 3
    assert other["said"] == []


def test_a_context_that_others_cannot_enter_is_left(other):
    left = []
    other["fails"] = [True]
    context = contextlib.ExitStack()
    context.callback(left.append, True)
    with pytest.raises(OtherProcessError), entered_together(context, 2):
        left.append("the block ran")
    assert left == [True]


def test_items_are_computed_in_step(other):
    other["fails"] = [False] * 3
    assert list(in_step("ab", 2)) == ["a", "b"]
    assert other["said"] == [False] * 3  # the end of the items is a step, too
    other["fails"] = [False, True]
    items = in_step("ab", 2)
    assert next(items) == "a"
    with pytest.raises(OtherProcessError):
        next(items)


def test_the_result_is_that_of_rank_0(other):
    other["outcome"] = ("of rank 0", None)
    assert result_of_rank0(lambda: "of rank 1", 2) == "of rank 0"


@pytest.mark.parametrize(
    ("reason", "error", "words"),
    [((True, "no images"), UserError, "^no images$"), ((False, "a bug"), RuntimeError, "^process 0: a bug$")],
)
@pytest.mark.parametrize("compute", [lambda: 1, lambda: fail(OtherProcessError())])
def test_a_failure_elsewhere_has_its_reason(other, reason, error, words, compute):
    other["outcome"] = (None, reason)
    with pytest.raises(error, match=words):
        result_of_rank0(compute, 2)


def test_a_failure_here_is_raised_as_it_is(other):
    other["outcome"] = ("of rank 0", None)
    with pytest.raises(ZeroDivisionError):
        result_of_rank0(lambda: fail(ZeroDivisionError()), 2)
