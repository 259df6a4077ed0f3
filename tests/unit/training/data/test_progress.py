import contextlib
import io
import re
import sys
import threading

import pytest

from training.data.progress import show_progress


class Stream(io.StringIO):
    """A stderr that lets tests wait for lines."""

    def __init__(self, is_terminal):
        super().__init__()
        self._is_terminal = is_terminal
        self.has_line = threading.Event()

    def isatty(self):
        return self._is_terminal

    def write(self, text):
        super().write(text)
        self.has_line.set()
        return len(text)


@pytest.fixture
def stderr(monkeypatch):
    def replace(is_terminal):
        stream = Stream(is_terminal)
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return replace


def test_short_work_is_silent(stderr):
    stream = stderr(is_terminal=False)
    assert list(show_progress(iter("abc"), "Reading", 3)) == ["a", "b", "c"]
    assert stream.getvalue() == ""


def test_lines_while_a_single_result_takes_long(stderr):
    stream = stderr(is_terminal=False)

    def results():
        yield "a"
        yield "b"
        while "2 of 3" not in stream.getvalue():
            stream.has_line.clear()
            assert stream.has_line.wait(timeout=60)
        yield "c"

    assert list(show_progress(results(), "Reading", 3, interval_sec=0.001)) == ["a", "b", "c"]
    pattern = r"Reading: 2 of 3 images, \d+\.\d images/s, about \d+s left"
    assert [line for line in stream.getvalue().splitlines() if re.fullmatch(pattern, line)]


def test_before_the_first_result_no_time_is_estimated(stderr):
    stream = stderr(is_terminal=False)

    def results():
        assert stream.has_line.wait(timeout=60)
        yield "a"

    assert list(show_progress(results(), "Reading", 1, interval_sec=0.001)) == ["a"]
    assert stream.getvalue().splitlines()[0] == "Reading: 0 of 1 image, 0.0 images/s"


def test_a_bar_on_a_terminal(stderr):
    stream = stderr(is_terminal=True)
    assert list(show_progress(iter("abc"), "Reading", 3)) == ["a", "b", "c"]
    assert "Reading:   0%" in stream.getvalue()


def test_progress_ends_with_its_consumer(stderr):
    stderr(is_terminal=False)
    before = threading.active_count()
    with contextlib.closing(show_progress(iter("abc"), "Reading", 3)) as results:
        assert next(results) == "a"
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
