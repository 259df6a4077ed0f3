import errno
import io
import itertools
import json
import math
import os
import re
import sys
from unittest import mock

import pytest
import torch

from dnnlib.jsonl import read_lines
from torch_utils import training_stats
from training.run import log as log_module
from training.run.log import Console, RunLog, TickTimes, describe_pace, report_tick

CPU = torch.device("cpu")
TIMES = TickTimes(total=3725.4, tick=10.0, maintenance=2.5, data_wait=0.25)
REFERENCE_FIELDS = ["tick", "kimg", "time", "sec/tick", "sec/kimg", "maintenance", "cpumem", "gpumem", "augment"]


def line(**changes):
    values = {"cur_tick": 7, "cur_nimg": 28000, "tick_nimg": 4000, "total_nimg": 30000, "augment": 0.125}
    return report_tick(**{**values, **changes}, times=TIMES, device=CPU)


def test_fields_are_those_of_the_reference_in_their_order_and_then_ours():
    number, duration = r"\d+(?:\.\d+)?", r"\d+s|\d+m \d\ds|\d+h \d\dm \d\ds|\d+d \d\dh \d\dm"
    pattern = r"\s+".join(
        f"{re.escape(name)} ({duration if name in ('time', 'eta') else number})"
        for name in [*REFERENCE_FIELDS, "eta", "data"]
    )
    match = re.fullmatch(pattern + "%", line())
    assert match, line()
    fields = dict(zip([*REFERENCE_FIELDS, "eta", "data"], match.groups(), strict=True))
    for name in ("cpumem", "gpumem"):
        del fields[name]
    assert fields == {
        "tick": "7",
        "kimg": "28.0",
        "time": "1h 02m 05s",
        "sec/tick": "10.0",
        "sec/kimg": "2.50",
        "maintenance": "2.5",
        "augment": "0.125",
        "eta": "5s",
        "data": "2.5",
    }


def test_scripts_that_read_the_line_of_the_reference_still_do():
    """A common way to read it: the words after the names."""
    words = line().split()
    assert words[words.index("kimg") + 1] == "28.0"
    assert words[words.index("augment") + 1] == "0.125"


def test_nothing_is_left_at_the_end():
    assert "eta 0s " in line(cur_nimg=30000)
    assert "eta 0s " in line(cur_nimg=30016)


def test_what_is_reported():
    stats = training_stats.Collector("(Progress|Timing|Resources)/.*")
    line()
    stats.update()
    expected = {
        "Progress/tick": 7,
        "Progress/kimg": 28,
        "Progress/augment": 0.125,
        "Timing/total_sec": 3725.4,
        "Timing/sec_per_tick": 10,
        "Timing/sec_per_kimg": 2.5,
        "Timing/maintenance_sec": 2.5,
        "Timing/total_hours": 3725.4 / 3600,
        "Timing/total_days": 3725.4 / 86400,
        "Timing/data_wait_frac": 0.025,
        "Resources/peak_gpu_mem_gb": 0,
    }
    assert {name: stats[name] for name in expected} == pytest.approx(expected)
    assert 0.05 < stats["Resources/cpu_mem_gb"] < 100
    assert set(stats.names()) == {*expected, "Resources/cpu_mem_gb"}


# stats.jsonl


@pytest.fixture
def stats():
    return training_stats.Collector("Loss/.*")


def write(log, stats, nimg, value):
    training_stats.report("Loss/x", value)
    stats.update()
    log.write(nimg, stats)


def lines(folder):
    return [json.loads(text) for text in (folder / "stats.jsonl").read_text().splitlines()]


def test_a_line_per_tick_with_num_mean_std_and_time(tmp_path, stats):
    log = RunLog(tmp_path, 0, 0)
    write(log, stats, 4, [1.0, 3.0])
    assert len(lines(tmp_path)) == 1, "a line is there as soon as it is written"
    write(log, stats, 8, 5.0)
    log.close()
    first, second = lines(tmp_path)
    assert first.pop("timestamp") <= second.pop("timestamp")
    assert first == {"Loss/x": {"num": 2, "mean": 2.0, "std": 1.0}}
    assert second == {"Loss/x": {"num": 1, "mean": 5.0, "std": 0.0}}


def test_going_on_drops_the_lines_of_ticks_that_will_run_again(tmp_path, stats):
    log = RunLog(tmp_path, 0, 0)
    write(log, stats, 4, 1)
    num_bytes = log.num_bytes
    write(log, stats, 8, 2)
    log.close()
    with open(tmp_path / "stats.jsonl", "a") as file:
        file.write('{"half a li')
    log = RunLog(tmp_path, num_bytes, 4)
    write(log, stats, 8, 3)
    log.close()
    assert [each["Loss/x"]["mean"] for each in lines(tmp_path)] == [1, 3]
    assert num_bytes == len((tmp_path / "stats.jsonl").read_text().splitlines(keepends=True)[0])


@pytest.mark.parametrize("num_lost", [1, 20])
def test_a_file_that_was_cut_or_edited_costs_no_further_tick(tmp_path, stats, num_lost):
    log = RunLog(tmp_path, 0, 0)
    for mean in (1, 2):
        write(log, stats, 4 * mean, mean)
    num_bytes = log.num_bytes
    log.close()
    with open(tmp_path / "stats.jsonl", "r+b") as file:
        file.truncate(num_bytes - num_lost)
    log = RunLog(tmp_path, num_bytes, 8)
    write(log, stats, 12, 3)
    log.close()
    means = [line["Loss/x"]["mean"] for _number, line in read_lines(tmp_path / "stats.jsonl")]
    assert means == ([1, 2, 3] if num_lost == 1 else [1, 3])


def test_a_file_that_was_lost_begins_anew(tmp_path, stats):
    log = RunLog(tmp_path, 1000, 4)
    write(log, stats, 8, 1)
    log.close()
    assert len(lines(tmp_path)) == 1


def test_a_line_is_on_the_disk_before_a_state_can_count_on_it(tmp_path, stats, monkeypatch):
    log = RunLog(tmp_path, 0, 0)
    sizes = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: sizes.append(os.fstat(descriptor).st_size))
    write(log, stats, 4, 1)
    assert sizes == [log.num_bytes]
    log.close()


def test_every_line_is_valid_json(tmp_path, stats):
    log = RunLog(tmp_path, 0, 0)
    write(log, stats, 4, [math.nan, math.inf])
    log.close()
    (line,) = (tmp_path / "stats.jsonl").read_text().splitlines()
    values = json.loads(line, parse_constant=pytest.fail)
    assert values["Loss/x"] == {"num": 2, "mean": None, "std": None}


class Curves:
    """Where statistics are shown, too."""

    def __init__(self, error=None):
        self.error, self.is_closed = error, False

    def close(self):
        self.is_closed = True
        if self.error is not None:
            raise self.error


def test_everything_is_closed_even_if_something_fails(tmp_path):
    log = RunLog(tmp_path, 0, 0)
    log._curves += [Curves(), Curves(OSError("Weights & Biases: gone")), Curves()]
    with pytest.raises(OSError, match="gone"):
        log.close()
    assert log._file.closed
    assert all(curves.is_closed for curves in log._curves[1:])


class FullDisk(io.FileIO):
    """Takes half of what is written."""

    def write(self, data):
        return super().write(data[: len(data) // 2])


def test_a_full_disk_leaves_no_half_line(tmp_path, stats):
    log = RunLog(tmp_path, 0, 0)
    write(log, stats, 4, 1)
    good, log._file = log._file, FullDisk(tmp_path / "stats.jsonl", "ab")
    with pytest.raises(OSError, match="No space left"):
        write(log, stats, 8, 2)
    log._file.close()
    log._file = good
    write(log, stats, 12, 3)
    log.close()
    assert [each["Loss/x"]["mean"] for each in lines(tmp_path)] == [1, 3]


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
    monkeypatch.setattr(log_module.time, "monotonic", lambda: next(clock))
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
    monkeypatch.setattr(log_module.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(sys, "__stdout__", stdout)
    if stdout is not None:
        stdout.close()
    ticks = iter([False, True])
    Console(is_main=True, progress="plain")._print_heartbeats(mock.Mock(wait=lambda _timeout_sec: next(ticks)))
    assert capsys.readouterr().out == ""


def test_what_a_pace_means():
    line = describe_pace(sec_per_kimg=36.0, kimg_left=1000, kimg_to_snapshot=200)
    assert line.startswith("About 36 s per kimg: 10h 00m 00s for the 1000 kimg left, 2h 00m 00s to the next")
    assert "next samples" not in describe_pace(36.0, 1000, None)


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_event_files(tmp_path, stats):
    log = RunLog(tmp_path, 0, 0)
    write(log, stats, 4000, 1)
    log.write_metrics(8000, {"fid50k_full": 2.5})
    log.close()
    assert events(tmp_path) == {"Loss/x": [(4, 1.0)], "Metrics/fid50k_full": [(8, 2.5)]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_ticks_below_one_kimg_have_steps_of_their_own(tmp_path, stats):
    log = RunLog(tmp_path, 0, 0, steps_per_kimg=1000)
    for nimg in (4, 500):
        write(log, stats, nimg, nimg)
    log.close()
    assert events(tmp_path) == {"Loss/x": [(4, 4.0), (500, 500.0)]}


def test_without_tensorboard_there_are_no_event_files(tmp_path, stats, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    log = RunLog(tmp_path, 0, 0)
    write(log, stats, 4000, 1)
    log.write_metrics(4000, {"fid50k_full": 2.5})
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["stats.jsonl"]
