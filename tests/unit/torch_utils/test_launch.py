"""Real processes that fail, are stopped or get signals, and environments as launchers make them."""

import functools
import io
import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from dnnlib.errors import UserError
from torch_utils import launch as launching
from torch_utils.launch import World, launch, world_from_env

NUM_PROCESSES = 2
MEETING = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("env", "world"),
    [
        ({}, None),
        ({"WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "0", **MEETING}, World(2, 4, 0)),
        ({"WORLD_SIZE": "4", "RANK": "2", **MEETING}, World(2, 4, 2)),
        ({"WORLD_SIZE": "1", "RANK": "0"}, World(0, 1, 0)),
    ],
)
def test_the_place_can_come_from_the_environment(monkeypatch, env, world):
    set_environment(monkeypatch, env)
    assert world_from_env() == world


@pytest.mark.parametrize(
    "env", [{"WORLD_SIZE": "2"}, {"WORLD_SIZE": "2", "RANK": "x"}, {"WORLD_SIZE": "2", "RANK": "2"}]
)
def test_a_broken_environment_is_one_clear_line(monkeypatch, env):
    set_environment(monkeypatch, env)
    with pytest.raises(UserError, match="RANK"):
        world_from_env()


@pytest.mark.parametrize("meeting", [{}, {"MASTER_ADDR": "a"}, {"MASTER_PORT": "1"}, {**MEETING, "MASTER_PORT": "x"}])
def test_several_processes_must_know_where_to_meet(monkeypatch, meeting):
    set_environment(monkeypatch, {"WORLD_SIZE": "2", "RANK": "0", **meeting})
    with pytest.raises(UserError, match=r"^WORLD_SIZE is 2, so MASTER_ADDR and MASTER_PORT must .* torchrun, or unset"):
        world_from_env()


def set_environment(monkeypatch, env):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", *MEETING):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)


def fail_on_rank1(how, world, _init_method):
    if world.rank == 0:
        time.sleep(60)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "path":
        raise UserError("no such file: caf\udce9.zip")  # of a name that is not UTF-8
    raise {"user": UserError, "bug": ZeroDivisionError}[how]("the cause")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ("user", UserError, "^the cause$"),
        ("path", UserError, "^no such file: caf\udce9.zip$"),
        ("bug", RuntimeError, r"^rank 1 of 2 failed: [\s\S]*ZeroDivisionError: the cause"),
        ("killed", RuntimeError, "^rank 1 of 2 failed: .*SIGKILL"),
    ],
)
def test_one_failure_ends_all_and_names_the_rank(monkeypatch, how, error, words):
    monkeypatch.setattr(launching, "GRACE_SEC", 0.1)
    with pytest.raises(error, match=words):
        launch(functools.partial(fail_on_rank1, how), NUM_PROCESSES)


def test_started_processes_print_any_text(monkeypatch, tmp_path):
    terminal = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(terminal, encoding="ascii"))
    launching._run_process(0, lambda world, init_method: print("f\u00fcnf", flush=True), 1, str(tmp_path))
    assert terminal.getvalue() == b"f\\xfcnf\n"


@pytest.mark.parametrize(("num_processes", "chosen", "expected"), [(2, None, [3]), (9, None, [1]), (2, "4", [])])
def test_processes_share_the_threads_unless_the_user_has_chosen(monkeypatch, tmp_path, num_processes, chosen, expected):
    found = []
    monkeypatch.setattr(launching, "print_any_text", lambda: None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    monkeypatch.delenv("OMP_NUM_THREADS")
    if chosen is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    launching._run_process(0, lambda world, init_method: None, num_processes, str(tmp_path))
    assert found == expected


def wait_for_signals(folder, world, _init_method):
    got = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: got.set())
    Path(folder, f"ready{world.rank}").touch()
    if got.wait(60):
        Path(folder, f"stopped{world.rank}").touch()


def wait_unprepared(folder, world, _init_method):
    Path(folder, f"ready{world.rank}").touch()
    time.sleep(60)


@contextmanager
def signal_when_ready(folder, signum):
    """Send this process alone a signal when its children wait for one."""

    def send():
        while len(list(folder.glob("ready*"))) < NUM_PROCESSES:
            time.sleep(0.01)
        os.kill(os.getpid(), signum)

    thread = threading.Thread(target=send)
    thread.start()
    yield
    thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_every_process(tmp_path, signum):
    handlers = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    with signal_when_ready(tmp_path, signum):
        launch(functools.partial(wait_for_signals, tmp_path), NUM_PROCESSES)
    assert len(list(tmp_path.glob("stopped*"))) == NUM_PROCESSES
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == handlers


@pytest.mark.slow
def test_an_interrupt_ends_processes_that_do_not_handle_it(tmp_path):
    with signal_when_ready(tmp_path, signal.SIGINT), pytest.raises(KeyboardInterrupt):
        launch(functools.partial(wait_unprepared, tmp_path), NUM_PROCESSES)


def test_a_process_goes_on_where_nobody_reads_what_it_prints(monkeypatch, tmp_path):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Gone())
    ended = []
    launching._run_process(0, lambda *_arguments: ended.append(print("a score")), 1, str(tmp_path))
    assert ended
