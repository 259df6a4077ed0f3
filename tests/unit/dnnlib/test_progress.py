import io
import sys

import pytest

from dnnlib import progress
from dnnlib.progress import progress_bar


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
    for clock[0], items in ((29, 1), (31, 1), (32, 1), (60, 4), (92, 2), (93, 1)):
        bar.update(items)
    bar.close()
    assert capsys.readouterr().out.splitlines() == [
        "images: 0 of 10, 00:00, ? left",
        "images: 2 of 10, 00:31, 02:04 left",
        "images: 9 of 10, 01:32, 00:09 left",
        "images: 10 of 10, 01:33, 00:00 left",
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
    assert capsys.readouterr().out == "images: 0 of ?, 00:00\nimages: 3 of ?, 00:40\n"


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


def test_shows_nothing_if_disabled(monkeypatch, capsys):
    for stderr in (sys.stderr, Terminal()):
        monkeypatch.setattr(sys, "stderr", stderr)
        with progress_bar("images", total=10, disable=True) as bar:
            bar.update(10)
        assert stderr is not sys.stderr or getattr(stderr, "getvalue", str)() == ""
    assert capsys.readouterr() == ("", "")


def test_is_never_silent_for_a_minute():
    assert progress.LINE_INTERVAL_SEC < 60
