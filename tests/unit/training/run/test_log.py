import json
import os
import re
import sys

import pytest
import torch

from torch_utils import training_stats
from training.run.log import RunLog, TickTimes, report_tick

CPU = torch.device("cpu")
TIMES = TickTimes(total=3725.4, tick=10.0, maintenance=2.5, data_wait=0.25)
REFERENCE_FIELDS = ["tick", "kimg", "time", "sec/tick", "sec/kimg", "maintenance", "cpumem", "gpumem", "augment"]


def line(**changes):
    values = {"cur_tick": 7, "cur_nimg": 28000, "tick_nimg": 4000, "total_nimg": 30000, "augment": 0.125}
    return report_tick(**{**values, **changes}, times=TIMES, device=CPU)


# The status line


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


# TensorBoard


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


def test_without_tensorboard_there_are_no_event_files(tmp_path, stats, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    log = RunLog(tmp_path, 0, 0)
    write(log, stats, 4000, 1)
    log.write_metrics(4000, {"fid50k_full": 2.5})
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["stats.jsonl"]
