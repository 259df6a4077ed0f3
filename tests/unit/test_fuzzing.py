"""The limits that other tests rely on."""

import os
import random

import pytest

from dnnlib.errors import UserError
from tests.fuzzing import fuzz, limit_cpu, mutate, num_rounds, refusal_allowed, run_bounded


def hang() -> None:
    while True:
        pass


def laugh() -> None:
    shared: list = []
    for _ in range(100):
        shared = [shared, shared]
    repr(shared)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "said"),
    [
        (hang, "SIGXCPU"),
        (laugh, "SIGXCPU|MemoryError"),
        (lambda: bytearray(1 << 30), "MemoryError"),
        (lambda: 1 // 0, "ZeroDivisionError"),
        (lambda: os.kill(os.getpid(), 9), "SIGKILL"),
        (lambda: os._exit(3), "status 3"),
    ],
)
def test_what_a_process_may_not_do(task, said):
    with pytest.raises(AssertionError, match=said):
        run_bounded(task, max_cpu_sec=1)


def test_results_come_back():
    assert run_bounded(lambda: {"a": bytes(1 << 20)}) == {"a": bytes(1 << 20)}


def test_the_clock_can_be_set_back():
    def task() -> int:
        for _ in range(3):
            limit_cpu(1)
            sum(range(10**6))
        return 1

    assert run_bounded(task, max_cpu_sec=1) == 1


def refuse(data: bytes) -> None:
    if data != b"valid":
        raise UserError("no")


def escape(data: bytes) -> None:
    if data != b"valid":
        raise UserError("\x1b[2J")


def lack_memory(data: bytes) -> None:
    if data != b"valid":
        raise UserError("no") from MemoryError()


def fail(data: bytes) -> None:
    if data != b"valid":
        raise KeyError


def execute(data: bytes) -> None:
    if data != b"valid":
        eval("1")


def hang_on_mutations(data: bytes) -> None:
    if data != b"valid":
        hang()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("read", "said"),
    [
        (escape, r"x1b"),
        (lack_memory, "out of memory"),
        (fail, "mutation [01] of seed 7"),
        (execute, "compile"),
        (hang_on_mutations, "SIGXCPU"),
    ],
)
def test_what_readers_may_not_do(read, said):
    with pytest.raises(AssertionError, match=said):
        fuzz(read, [b"valid"], 5, seed=7, max_cpu_sec=1)


def test_refusals_are_counted():
    assert 80 < fuzz(refuse, [b"valid"], 100) <= 100


def test_valid_files_must_be_read():
    with pytest.raises(AssertionError, match="UserError: no"):
        fuzz(refuse, [b"valid", b"other"], 1)


def test_mutations_are_those_of_the_seed_and_differ():
    mutations = [mutate(random.Random(seed), b"0123456789" * 10) for seed in range(200)]
    assert mutations == [mutate(random.Random(seed), b"0123456789" * 10) for seed in range(200)]
    assert len(set(mutations)) > 150
    assert {len(mutate(random.Random(seed), b"")) for seed in range(50)} > {0}


def test_refusals_for_lack_of_memory_are_none():
    with refusal_allowed():
        raise UserError("no")
    with pytest.raises(AssertionError, match="out of memory"), refusal_allowed():
        raise UserError("no") from MemoryError()


def test_the_environment_sets_the_number_of_rounds(monkeypatch):
    monkeypatch.delenv("MSCOND_FUZZ_ROUNDS", raising=False)
    assert num_rounds(5) == 5
    monkeypatch.setenv("MSCOND_FUZZ_ROUNDS", "70")
    assert num_rounds(5) == 70
