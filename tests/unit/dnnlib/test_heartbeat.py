import sys
import threading

from dnnlib.heartbeat import heartbeat


class Asked(threading.Event):
    """Is set when a line has been asked for twice, so that the first one has been printed."""

    def __init__(self, line):
        super().__init__()
        self.line = line
        self.num_calls = 0

    def __call__(self):
        self.num_calls += 1
        if self.num_calls == 2:
            self.set()
        return self.line


def test_lines_during_a_busy_block(capsys):
    before = threading.active_count()
    asked = Asked("still here")
    with heartbeat(asked, interval_sec=0.001):
        assert asked.wait(timeout=60)
    assert threading.active_count() == before
    assert set(capsys.readouterr().err.splitlines()) == {"still here"}


def test_nothing_to_say(capsys):
    asked = Asked(None)
    with heartbeat(asked, interval_sec=0.001):
        assert asked.wait(timeout=60)
    assert capsys.readouterr().err == ""


def test_short_work_is_silent(capsys):
    with heartbeat(lambda: "still here"):
        pass
    assert capsys.readouterr().err == ""


def test_it_survives_a_stderr_that_nobody_reads(monkeypatch):
    class Broken:
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Broken())
    asked = Asked("still here")
    with heartbeat(asked, interval_sec=0.001):
        assert asked.wait(timeout=60)
