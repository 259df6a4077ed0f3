"""Records with their lines, among damaged ones."""

import json

import pytest

from comparison.records import read_run
from tests.unit.comparison.fake_runs import make_job, score_line, stats_line, write_run


def test_times_add_up_over_ticks(tmp_path):
    run_dir = write_run(tmp_path / "a/seed0", [3.0, 2.0], 10.0, 1.0, make_job())
    records = read_run(0, run_dir, tmp_path, ["fd_tiny"])
    assert [round(tick.train_sec, 3) for tick in records.ticks] == [0.1, 10.1, 20.1]
    assert [(point.kimg, point.value, point.source[-2:]) for point in records.scores["fd_tiny"]] == [
        (1.008, 3.0, ":2"),
        (2.008, 2.0, ":1"),
    ]


def test_the_first_record_of_a_snapshot_counts(tmp_path):
    run_dir = write_run(tmp_path / "a/seed0", [3.0], 10.0, 1.0, make_job())
    with open(run_dir / "metric-fd_tiny.jsonl", "a") as file:
        file.write(json.dumps(score_line("fd_tiny", 1, 99.0)) + "\n")
    assert [point.value for point in read_run(0, run_dir, tmp_path, ["fd_tiny"]).scores["fd_tiny"]] == [3.0]


def test_scores_that_are_no_numbers_are_left_out(tmp_path):
    run_dir = write_run(tmp_path / "a/seed0", [3.0, 2.0], 10.0, 1.0, make_job())
    lines = [
        {"results": {"fd_tiny": None}, "snapshot_pkl": "network-snapshot-000001.pkl"},
        {"results": {"fd_tiny": True}, "snapshot_pkl": "network-snapshot-000001.pkl"},
        {"results": [1], "snapshot_pkl": "network-snapshot-000001.pkl"},
        {"results": {"fd_tiny": 1.0}, "snapshot_pkl": None},
        {"results": {"fd_tiny": 1.0}, "snapshot_pkl": "../other.pkl"},
        {"results": {"fd_tiny": 1.0}, "snapshot_pkl": "network-snapshot-000000.pkl"},
        {"results": {"fd_tiny": 1.0}, "snapshot_pkl": "network-snapshot-000009.pkl"},  # which stats.jsonl lacks
    ]
    (run_dir / "metric-fd_tiny.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_run(0, run_dir, tmp_path, ["fd_tiny"]).scores == {}


def test_marks(tmp_path):
    run_dir = write_run(tmp_path / "a/seed0", [3.0], 10.0, 1.0, make_job())
    protocol = {"related_pretrained_D": True, "pretrained_D": "EfficientNet-Lite0 (ImageNet)"}
    (run_dir / "metric-fd_tiny.jsonl").write_text(json.dumps({**score_line("fd_tiny", 1, 3.0), "protocol": protocol}))
    protocol = {"related_pretrained_D": False, "pretrained_D": "none"}
    (run_dir / "metric-okd_tiny_car.jsonl").write_text(json.dumps({**score_line("okd", 1, 3.0), "protocol": protocol}))
    records = read_run(0, run_dir, tmp_path, ["fd_tiny", "okd_tiny_car"])
    assert records.related == {"fd_tiny"}
    assert records.pretrained == {"EfficientNet-Lite0 (ImageNet)"}


def test_what_scores_were_computed_of(tmp_path):
    run_dir = write_run(tmp_path, [3.0, 2.0], 10, 1, make_job())
    records = [
        {**score_line("fd_tiny", kimg, 3.0), "protocol": {"num_real": num, "real_fingerprint": "abcdef0123", "seed": 0}}
        for kimg, num in ((1, 5000), (2, 7), (2, 8))  # the last one does not count
    ]
    (run_dir / "metric-fd_tiny.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert read_run(0, run_dir, tmp_path, ["fd_tiny"]).conditions == {
        "fd_tiny": {f"{num} real images of checksum abcdef01, seed 0" for num in (5000, 7)}
    }


def test_a_snapshot_belongs_to_the_tick_that_ended_with_it(tmp_path):
    run_dir = write_run(tmp_path / "a/seed0", [3.0], 10.0, 1.0, make_job())
    ticks = [stats_line(number, kimg, 1.0, 1.0) for number, kimg in ((3, 1.0), (4, 1.3), (5, 1.6), (8, 2.6))]
    (run_dir / "stats.jsonl").write_text("".join(json.dumps(tick) + "\n" for tick in ticks))
    (point,) = read_run(0, run_dir, tmp_path, ["fd_tiny"]).scores["fd_tiny"]
    assert (point.kimg, point.train_sec) == (1.3, 2.0)
    (run_dir / "metric-fd_tiny.jsonl").write_text(
        json.dumps({"results": {"fd_tiny": 1.0}, "snapshot_pkl": "network-snapshot-000001_600.pkl"}) + "\n"
    )
    (point,) = read_run(0, run_dir, tmp_path, ["fd_tiny"]).scores["fd_tiny"]
    assert point.kimg == 1.6


@pytest.mark.parametrize("missing", ["Progress/tick", "Progress/kimg", "Timing/sec_per_tick"])
def test_ticks_that_lack_a_number_are_left_out(tmp_path, missing):
    run_dir = write_run(tmp_path / "a/seed0", [3.0], 10.0, 1.0, make_job())
    ticks = [stats_line(number, kimg, 1.0, 1.0) for number, kimg in ((4, 1.0), (8, 2.0), (12, 3.0))]
    del ticks[1][missing]
    (run_dir / "stats.jsonl").write_text("".join(json.dumps(tick) + "\n" for tick in ticks))
    found = read_run(0, run_dir, tmp_path, []).ticks
    assert [(tick.number, tick.kimg, tick.train_sec) for tick in found] == [(4, 1.0, 1.0), (12, 3.0, 2.0)]
    assert found[1].source == "a/seed0/00000-scenes/stats.jsonl:3"
