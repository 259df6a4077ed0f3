import errno
import io
import itertools
import re
import sys
from unittest import mock

import pytest

from training.run import console as console_module
from training.run.console import Console


def test_the_main_process_alone_prints(capsys):
    for is_main, progress in ((True, "plain"), (True, "none"), (False, "plain")):
        Console(is_main, progress).say(f"{is_main} {progress}")
    assert capsys.readouterr().out == "True plain\n"


def test_a_closed_terminal_does_not_end_a_run(monkeypatch):
    stream = mock.Mock(write=mock.Mock(side_effect=OSError(errno.EIO, "Input/output error")))
    monkeypatch.setattr(sys, "stdout", stream)
    Console(is_main=True, progress="plain").say("anything")
    assert stream.write.called


def test_a_long_activity_gives_signs_of_life(monkeypatch):
    """Ten seconds pass in a moment; what is printed goes past the log file."""
    clock = itertools.count(0, 11)
    monkeypatch.setattr(console_module.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(sys, "__stdout__", terminal := io.StringIO())
    console = Console(is_main=True, progress="plain")
    ticks = iter([False, False, True])
    is_over = mock.Mock(wait=lambda _timeout_sec: next(ticks))
    with console.doing("drawing fakes000000.png"):
        console._print_heartbeats(is_over)
    assert re.fullmatch(r"(  drawing fakes000000\.png \(\d+s\)\n){2}", terminal.getvalue())


@pytest.mark.parametrize("stdout", [None, io.TextIOWrapper(io.BytesIO())])
def test_signs_of_life_need_no_terminal(monkeypatch, capsys, stdout):
    clock = itertools.count(0, 11)
    monkeypatch.setattr(console_module.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(sys, "__stdout__", stdout)
    if stdout is not None:
        stdout.close()
    ticks = iter([False, True])
    Console(is_main=True, progress="plain")._print_heartbeats(mock.Mock(wait=lambda _timeout_sec: next(ticks)))
    assert capsys.readouterr().out == ""


class Terminal(io.StringIO):
    def __init__(self, is_terminal):
        super().__init__()
        self.isatty = lambda: is_terminal


@pytest.mark.parametrize(
    ("is_terminal", "times"), [(False, ["1m 40s", "2m 40s"]), (True, ["1m 40s", "2m 30s", "2m 40s"])]
)
def test_after_the_first_minute_a_file_gets_fewer_signs_of_life(monkeypatch, is_terminal, times):
    clock = iter([0, 0, 100, 150, 160])
    monkeypatch.setattr(console_module.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(sys, "__stderr__", Terminal(is_terminal))
    monkeypatch.setattr(sys, "__stdout__", printed := io.StringIO())
    ticks = iter([False, False, False, True])
    console = Console(is_main=True, progress="plain")
    with console.doing("scoring"):
        console._print_heartbeats(mock.Mock(wait=lambda _timeout_sec: next(ticks)))
    assert printed.getvalue().splitlines() == [f"  scoring ({time})" for time in times]


def test_what_was_done_before_is_done_again_afterwards(monkeypatch):
    clock = itertools.count(0, 20)
    monkeypatch.setattr(console_module.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(sys, "__stdout__", printed := io.StringIO())
    console = Console(is_main=True, progress="plain")  # at 0 s
    with console.doing("training"):  # at 20 s
        with console.doing("scoring"):  # at 40 s
            pass
        ticks = iter([False, True])
        console._print_heartbeats(mock.Mock(wait=lambda _timeout_sec: next(ticks)))  # at 60 s
    assert printed.getvalue() == "  training (40s)\n"
