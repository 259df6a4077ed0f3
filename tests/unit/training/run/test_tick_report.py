import re

import pytest
import torch

from torch_utils import training_stats
from training.run.counters import Counters
from training.run.tick_report import describe_pace, report_tick

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)
REFERENCE_FIELDS = ["tick", "kimg", "time", "sec/tick", "sec/kimg", "maintenance", "cpumem", "gpumem", "augment"]


def line(cur_nimg=28000, device=CPU):
    counters = Counters(cur_nimg=cur_nimg, cur_tick=7, tick_start_nimg=24000)
    counters.tick_sec, counters.maintenance_sec, counters.data_wait_sec = 10.0, 2.5, 0.25
    return report_tick(counters, elapsed_sec=3725.4, total_nimg=30000, augment_p=0.125, device=device)


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
    for cur_nimg in (30000, 30016, 60000):  # also of a run whose length was taken back
        assert "eta 0s " in line(cur_nimg)


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


def test_the_memory_of_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 << 29 if device == GPU else None)
    stats = training_stats.Collector("Resources/.*")
    assert "gpumem 1.50 " in line(device=GPU)
    stats.update()
    assert stats["Resources/peak_gpu_mem_gb"] == 1.5


def test_what_a_pace_means():
    line = describe_pace(sec_per_kimg=36.0, kimg_left=1000, kimg_to_snapshot=200)
    assert line.startswith("About 36 s per kimg: 10h 00m 00s for the 1000 kimg left, 2h 00m 00s to the next")
    assert line.endswith(". --kimg sets the length; --tick and --snap set how often snapshots are saved.")
    for kimg_to_snapshot in (None, 1000):  # none, and the last one
        assert "next samples" not in describe_pace(36.0, 1000, kimg_to_snapshot)


def test_the_pace_of_a_run_of_a_given_time():
    line = describe_pace(36.0, 1000, None, is_timed=True)
    assert line.endswith(" kimg left. --time sets the length; --snap sets how often snapshots are saved.")
