import concurrent.futures
import itertools
import multiprocessing
import os
import signal
import time

import psutil
import pytest

from dnnlib.errors import UserError
from training.data.parallel import MAX_WORKERS_PER_CORE, TASKS_AHEAD, ordered_map


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
    results = list(ordered_map(late_if_even, range(40), num_workers=2))
    assert [index for index, _ in results] == list(range(40))
    assert os.getpid() not in {pid for _, pid in results}


def test_one_worker_is_this_process():
    assert list(ordered_map(late_if_even, range(2), num_workers=1)) == [(0, os.getpid()), (1, os.getpid())]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_exceptions_arrive_in_order(num_workers):
    results = ordered_map(fail_at_three, range(100), num_workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(results)


def test_a_killed_process_is_reported():
    with pytest.raises(UserError, match=r"killed.*--workers"):
        list(ordered_map(die, range(3), num_workers=2))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_items_are_taken_as_they_are_needed(num_workers):
    taken = []
    results = ordered_map(str, (taken.append(item) or item for item in range(1000)), num_workers)
    assert [next(results) for _ in range(10)] == [str(item) for item in range(10)]
    assert len(taken) <= 10 + TASKS_AHEAD * num_workers
    results.close()


def blocked_signals(_index):
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getsignal(signal.SIGINT)


def test_ctrl_c_cannot_hit_a_process_that_is_starting():
    assert list(ordered_map(blocked_signals, range(2), num_workers=2)) == [(True, signal.SIG_IGN)] * 2
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def own_pid(_index):
    return os.getpid()


def tell_workers_and_wait(connection):
    results = ordered_map(own_pid, itertools.count(), num_workers=2)
    pids = set()
    while len(pids) < 2:
        pids.add(next(results))
    connection.send(pids)
    signal.pause()


def has_ended(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # which nobody may collect in a container
    except psutil.NoSuchProcess:
        return True


def test_processes_end_with_their_parent():
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    parent = spawn.Process(target=tell_workers_and_wait, args=(sender,))
    parent.start()
    workers = receiver.recv()
    parent.kill()
    parent.join()
    deadline = time.monotonic() + 60
    try:
        while not all(map(has_ended, workers)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        for pid in workers:
            if not has_ended(pid):
                os.kill(pid, signal.SIGKILL)


def test_a_machine_is_not_brought_down(monkeypatch):
    started = []
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", lambda num, *_args: started.append(num))
    with pytest.raises(AttributeError):  # of what is no pool
        list(ordered_map(str, range(3), num_workers=100_000))
    assert started == [MAX_WORKERS_PER_CORE]
