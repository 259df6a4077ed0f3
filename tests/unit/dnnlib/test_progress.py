import gc
import io
import sys
import time
import weakref
from unittest import mock

import pytest

from dnnlib import progress
from dnnlib.progress import progress_bar

PATIENCE_SEC = 60


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Time that passes by assignment."""
    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def test_writes_lines_at_intervals_where_there_is_no_terminal(capsys, clock):
    bar = progress_bar("images", total=10)
    for clock[0], items in ((9, 1), (11, 1), (12, 1), (20, 4), (32, 2), (33, 1)):
        bar.update(items)
    bar.close()
    assert capsys.readouterr().out.splitlines() == [
        "images: 0 of 10, 00:00, ? left",
        "images: 2 of 10, 00:11, 00:44 left",
        "images: 9 of 10, 00:32, 00:03 left",
        "images: 10 of 10, 00:33, 00:00 left",
    ]


def test_slower_items_do_not_delay_a_line(capsys, clock):
    bar = progress_bar("images", total=1000)
    for clock[0], items in ((31, 100), (62, 1)):
        bar.update(items)
    assert capsys.readouterr().out.splitlines()[-1].startswith("images: 101 of 1000, 01:02, ")


def test_a_bar_that_was_never_closed_does_not_move_the_next_one(capsys, clock):
    unfinished = progress_bar("images", total=10)
    progress_bar("more images", total=10).close()
    unfinished.close()
    assert [line.partition(",")[0] for line in capsys.readouterr().out.splitlines()] == [
        "images: 0 of 10",
        "more images: 0 of 10",
    ]


def test_an_unknown_total_and_no_line_twice(capsys, clock):
    with progress_bar("images", total=None) as bar:
        clock[0] = 40
        bar.update(3)
    assert capsys.readouterr().out == "images: 00:00\nimages: 3, 00:40\n"


def test_what_counts_nothing_shows_no_count(capsys, clock):
    with progress_bar("finding objects", total=None):
        clock[0] = 5
    assert capsys.readouterr().out == "finding objects: 00:00\n"


def test_a_line_drawn_between_two_items_delays_the_next(capsys, clock):
    with progress_bar("images", total=100) as bar:
        clock[0] = 9
        bar.update()
        clock[0] = 10
        bar.redraw()
        for clock[0] in (11, 19, 20):
            bar.update()
        clock[0] = 21
    assert capsys.readouterr().out.splitlines() == [
        "images: 0 of 100, 00:00, ? left",
        "images: 1 of 100, 00:10, 16:30 left",
        "images: 4 of 100, 00:20, 08:00 left",
    ]


def test_the_work_goes_on_although_nobody_reads_any_more(monkeypatch, clock):
    def write(_text):
        raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", mock.Mock(write=write, isatty=lambda: False))
    with progress_bar("images", total=2) as bar:
        clock[0] = 40
        bar.update(2)
    assert bar.n == 2


def test_bytes_are_abbreviated(capsys, clock):
    progress_bar("data", total=95_600_000, unit="B").close()
    assert capsys.readouterr().out == "data: 0.00 of 95.6M, 00:00, ? left\n"


def test_shows_a_bar_on_a_terminal_and_removes_it(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar("images", total=10, unit="img") as bar:
        bar.update(4)
        assert "images:" in terminal.getvalue()
        assert "/10" in terminal.getvalue()
    assert terminal.getvalue().rpartition("\r")[0].endswith(" ")
    assert capsys.readouterr().out == ""


def test_a_bar_that_counts_nothing_shows_no_count(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with progress_bar("finding objects", total=None) as bar:
        assert terminal.getvalue().strip() == "finding objects ..."
        bar.update(3)
        bar.refresh()
        assert "finding objects: 3it" in terminal.getvalue()


def test_shows_nothing_if_disabled(monkeypatch, capsys):
    for stderr in (sys.stderr, Terminal()):
        monkeypatch.setattr(sys, "stderr", stderr)
        with progress_bar("images", total=10, disable=True) as bar:
            bar.update(10)
        assert stderr is not sys.stderr or getattr(stderr, "getvalue", str)() == ""
    assert capsys.readouterr() == ("", "")


def test_is_never_silent_for_long():
    assert progress.LINE_INTERVAL_SEC <= 10


def test_an_item_that_takes_long_is_not_silent(clock, monkeypatch):
    """The line comes by itself, from a thread: what `capsys` empties at that moment would be lost."""
    monkeypatch.setattr(progress, "LINE_INTERVAL_SEC", 0.01)
    monkeypatch.setattr(sys, "stdout", shown := io.StringIO())
    deadline_sec = time.monotonic() + PATIENCE_SEC
    with progress_bar("images", total=10):
        clock[0] = 50
        while "images: 0 of 10, 00:50" not in shown.getvalue():
            assert time.monotonic() < deadline_sec
            time.sleep(0.001)


def test_a_forgotten_bar_is_not_kept_alive():
    reference = weakref.ref(progress_bar("images", total=10))
    gc.collect()
    assert reference() is None
