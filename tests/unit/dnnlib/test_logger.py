import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dnnlib.logger import Logger, write_to_log
from tests.helpers import REPOSITORY


def test_logger_copies_both_streams_and_gives_them_back(tmp_path, capsys):
    streams = sys.stdout, sys.stderr
    with Logger(tmp_path / "log.txt") as logger:
        print("out")
        print("err", file=sys.stderr)
        logger.write("direct\n")
        assert (tmp_path / "log.txt").read_text() == "out\nerr\ndirect\n"  # flushed already
        assert sys.stdout.encoding == streams[0].encoding
    assert (sys.stdout, sys.stderr) == streams
    print("after")
    assert (tmp_path / "log.txt").read_text() == "out\nerr\ndirect\n"
    assert tuple(capsys.readouterr()) == ("out\ndirect\nafter\n", "err\n")


def test_logger_appends_and_survives_a_second_close(tmp_path):
    for word in ("one", "two"):
        logger = Logger(tmp_path / "log.txt", file_mode="a", should_flush=False)
        print(word)
        logger.flush()
        assert (tmp_path / "log.txt").read_text().endswith(f"{word}\n")
        logger.close()
        logger.close()
    assert (tmp_path / "log.txt").read_text() == "one\ntwo\n"


def test_logger_without_a_file_only_passes_on(capsys):
    with Logger():
        print("out")
    assert capsys.readouterr().out == "out\n"


def test_logger_keeps_the_traceback_of_what_ended_the_block(tmp_path):
    def fail():
        with Logger(tmp_path / "log.txt"):
            raise ZeroDivisionError("the cause")

    with pytest.raises(ZeroDivisionError):
        fail()
    assert "ZeroDivisionError: the cause" in (tmp_path / "log.txt").read_text()


def test_nested_loggers_close_in_order(tmp_path):
    with Logger(tmp_path / "outer"):
        with Logger(tmp_path / "inner"):
            print("both")
        print("outer")
    assert (tmp_path / "inner").read_text() == "both\n"
    assert (tmp_path / "outer").read_text() == "both\nouter\n"


def test_details_go_to_the_log_alone(tmp_path, capsys):
    write_to_log("nowhere\n")
    with Logger(tmp_path / "log.txt"):
        print("both")
        write_to_log("details\n")
    assert capsys.readouterr().out == "both\n"
    assert (tmp_path / "log.txt").read_text() == "both\ndetails\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full, which Linux has")
def test_a_full_disk_does_not_end_what_is_logged(capsys):
    with Logger("/dev/full"):
        print("goes on")
        write_to_log("details\n")
    assert capsys.readouterr().out == "goes on\n"


def test_a_reader_that_goes_away_does_not_end_what_is_logged(tmp_path):
    read, write = os.pipe()
    os.close(read)
    log = tmp_path / "log.txt"
    code = f"from dnnlib.logger import Logger\nwith Logger({str(log)!r}):\n print('one', flush=True)\n print('two')"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=REPOSITORY, stdout=write, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
    assert log.read_text() == "one\ntwo\n"


def test_there_may_be_no_console(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with Logger(tmp_path / "log.txt") as logger:
        print("one", flush=True)
        assert sys.stdout.write("two\n") == 4
        assert not sys.stdout.isatty()
        logger.flush()
    assert sys.stdout is None
    assert (tmp_path / "log.txt").read_text() == "one\ntwo\n"


def test_the_console_may_have_been_closed(tmp_path, monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", console)
    with Logger(tmp_path / "log.txt") as logger:
        console.close()
        print("goes on", flush=True)
        logger.flush()
    print("still")
    assert (tmp_path / "log.txt").read_text() == "goes on\n"


def test_what_a_console_cannot_show_is_escaped(tmp_path, monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", console)
    with Logger(tmp_path / "log.txt"):
        print("caf\u00e9 \u30c7 \udce9")
    assert console.buffer.getvalue().split() == [b"caf\xe9", b"\\u30c7", b"\\udce9"]
    assert (tmp_path / "log.txt").read_text(encoding="utf-8") == "caf\u00e9 \u30c7 \\udce9\n"
