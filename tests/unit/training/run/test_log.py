import errno
import io
import json
import math
import os
import sys

import pytest

from dnnlib.jsonl import read_lines
from torch_utils import training_stats
from training.run import log as log_module
from training.run.log import RunLog


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


def test_a_cut_line_is_ended_once_a_disk_that_was_full_has_room(tmp_path, stats, monkeypatch):
    log = RunLog(tmp_path, 0, 0)
    write(log, stats, 4, 1)
    num_bytes = log.num_bytes
    log.close()
    (tmp_path / "stats.jsonl").write_bytes((tmp_path / "stats.jsonl").read_bytes()[:-1])

    def no_space(self, _data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(log_module, "open", lambda path, mode, **_more: FullDisk(path, mode), raising=False)
    monkeypatch.setattr(FullDisk, "write", no_space)
    log = RunLog(tmp_path, num_bytes, 4)
    with pytest.raises(OSError, match="No space left"):
        write(log, stats, 8, 2)
    monkeypatch.setattr(FullDisk, "write", io.FileIO.write)
    for mean in (3, 4):
        write(log, stats, 4 * mean, mean)
    log.close()
    assert [each["Loss/x"]["mean"] for each in lines(tmp_path)] == [1, 3, 4]


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
