import io
import sys

import pytest

from metrics import progress
from metrics.progress import ProgressMonitor


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Time that passes by assignment."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_shows_nothing_unless_asked(capsys):
    monitor = ProgressMonitor(tag="images", num_items=2)
    monitor.update(2)
    ProgressMonitor(verbose=True).update(2)
    assert capsys.readouterr() == ("", "")


def test_writes_a_line_a_minute_and_one_at_the_end(capsys, clock):
    monitor = ProgressMonitor(tag="images", num_items=10, verbose=True)
    for items, second in ((1, 59), (2, 61), (3, 62), (10, 130)):
        clock[0] = second
        monitor.update(items)
    assert capsys.readouterr().out == "images: 2 of 10, 1m 01s, 4m 04s left\nimages: 10 of 10, 2m 10s\n"


def test_shows_a_bar_on_a_terminal(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monitor = ProgressMonitor(tag="images", num_items=10, verbose=True)
    monitor.update(4)
    monitor.update(10)
    assert "images" in terminal.getvalue()
    assert "/10" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_stages_share_a_display_of_the_caller():
    calls = []
    whole = ProgressMonitor(
        progress_fn=lambda position, total: calls.append((position, total)), pfn_total=200, pfn_hi=200
    )
    first = whole.sub("real", num_items=10, flush_interval=5, rel_hi=0.25)
    second = whole.sub("fakes", num_items=4, flush_interval=1, rel_lo=0.25)
    for items in (1, 4, 5, 9, 10):
        first.update(items)
    for items in (2, 4):
        second.update(items)
    assert calls == [(25, 200), (50, 200), (125, 200), (200, 200)]
