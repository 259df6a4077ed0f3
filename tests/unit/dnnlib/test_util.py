import copy
import io
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dnnlib
from dnnlib import util
from dnnlib.util import EasyDict, Logger, UserError, format_number, format_time, write_to_log
from tests.helpers import REPOSITORY


def test_easy_dict_is_a_dict_with_attributes():
    d = EasyDict(a=1)
    d.b = 2
    d["c"] = 3
    assert d == {"a": 1, "b": 2, "c": 3}
    assert (d.a, d["b"], d.c) == (1, 2, 3)
    del d.a
    assert "a" not in d


@pytest.mark.parametrize("use", [lambda d: d.absent, lambda d: delattr(d, "absent")])
def test_easy_dict_reports_missing_attributes(use):
    with pytest.raises(AttributeError, match="absent"):
        use(EasyDict())


def test_easy_dict_survives_copies_and_is_pickled_under_its_module():
    d = EasyDict(a=EasyDict(b=[1]))
    for other in (copy.deepcopy(d), pickle.loads(pickle.dumps(d))):
        assert type(other) is type(other.a) is EasyDict
        assert other == d
    assert b"dnnlib.util" in pickle.dumps(d, protocol=0)
    assert dnnlib.EasyDict is EasyDict


def test_objects_by_name():
    assert util.get_obj_by_name("os.path.join") is os.path.join
    assert util.get_obj_by_name("torch_utils.misc.InfiniteSampler.advance").__name__ == "advance"
    assert util.call_func_by_name("a", "b", func_name="os.path.join") == str(Path("a", "b"))
    assert util.construct_class_by_name(class_name="dnnlib.util.EasyDict", x=1).x == 1


@pytest.mark.parametrize("name", ["os.path.joint", "no_such_module.f", "os", "os.path.join.deeper", "", ".os"])
def test_a_wrong_name_is_one_clear_line(name):
    with pytest.raises(UserError, match=re.escape(f"'{name}'")):
        util.call_func_by_name(func_name=name)


def test_names_cannot_write_to_the_terminal():
    for use in (util.get_obj_by_name, lambda name: getattr(EasyDict(), name)):
        with pytest.raises((UserError, AttributeError), match=re.escape("'\\x1b[2J!!!")) as caught:
            use("\x1b[2J" + 1000 * "!")
        assert len(str(caught.value)) < 200


def test_an_error_inside_a_module_is_not_taken_for_a_wrong_name(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("import absent_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="absent_dependency"):
        util.get_obj_by_name("broken_module.f")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (12.4, "12s"),
        (59.6, "1m 00s"),
        (65, "1m 05s"),
        (3599, "59m 59s"),
        (3723, "1h 02m 03s"),
        (86399, "23h 59m 59s"),
        (86400 + 7380, "1d 02h 03m"),
    ],
)
def test_format_time(seconds, text):
    assert format_time(seconds) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.123456, 4, "0.1235"), (12.3456, 4, "12.35"), (9999.4, 4, "9999"), (-9999.6, 4, "-10000"),
        (1039.7, 3, "1040"), (999.5, 3, "1000"), (123456.7, 2, "123457"), (1e30, 4, "1e+30"),
    ],
)  # fmt: skip
def test_large_numbers_are_written_out(value, digits, text):
    assert format_number(value, digits) == text


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


def test_cache_dir_precedence(tmp_path, monkeypatch):
    monkeypatch.setattr(util, "_cache_dir", None)
    monkeypatch.delenv("DNNLIB_CACHE_DIR", raising=False)
    assert Path(util.make_cache_dir_path("a", "b")) == Path.home() / ".cache" / "dnnlib" / "a" / "b"
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "env"))
    assert Path(util.make_cache_dir_path()) == tmp_path / "env"
    util.set_cache_dir(tmp_path / "set")
    assert Path(util.make_cache_dir_path("x")) == tmp_path / "set" / "x"


@pytest.mark.parametrize("url", ["https://host/a.pkl", "http://host:80/x?y=z"])
def test_urls(url):
    assert util.is_url(url)


@pytest.mark.parametrize(
    "obj", ["a.pkl", "/a/b", "C:\\a", "https://", "ftp://host/a", "file:///a", "https://[", "", None, 3]
)
def test_not_urls(obj):
    assert not util.is_url(obj)


def test_file_urls_count_only_if_asked_for():
    assert util.is_url("file:///a", allow_file_urls=True)


def test_import_is_silent_and_loads_nothing_heavy():
    code = "import sys, dnnlib; print(*{'torch', 'numpy', 'pooch', 'requests', 'tqdm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


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
    code = f"from dnnlib.util import Logger\nwith Logger({str(log)!r}):\n print('one', flush=True)\n print('two')"
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
