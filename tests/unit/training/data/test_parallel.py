import os
import signal
import time

import pytest

from dnnlib.util import UserError
from training.data.parallel import ordered_map


def late_if_even(index):
    time.sleep(0.02 * (index % 2 == 0))
    return index, os.getpid()


def fail_at_three(index):
    if index == 3:
        raise KeyError("three")
    return index


def die(index):
    os.kill(os.getpid(), signal.SIGKILL)


def test_order_is_that_of_the_indices():
    results = list(ordered_map(late_if_even, 40, num_workers=2))
    assert [index for index, _ in results] == list(range(40))
    assert os.getpid() not in {pid for _, pid in results}


def test_one_worker_is_this_process():
    assert list(ordered_map(late_if_even, 2, num_workers=1)) == [(0, os.getpid()), (1, os.getpid())]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_exceptions_arrive_in_order(num_workers):
    results = ordered_map(fail_at_three, 100, num_workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(results)


def test_a_killed_process_is_reported():
    with pytest.raises(UserError, match=r"killed.*--workers"):
        list(ordered_map(die, 3, num_workers=2))
