"""Which snapshots of a run are scored."""

import json

import pytest

from comparison.snapshots import scored_snapshots
from tests.unit.comparison.fake_runs import stats_line


def write(run_dir, ticks, names, reason="stopped"):
    lines = [json.dumps(stats_line(tick, kimg, 1.0, 1.0)) + "\n" for tick, kimg in ticks]
    (run_dir / "stats.jsonl").write_text("".join(lines))
    (run_dir / "exit_status.json").write_text(json.dumps({"reason": reason, "kimg": ticks[-1][1]}))
    for name in names:
        (run_dir / f"network-snapshot-{name}.pkl").touch()


TICKS = [(0, 0.064), (1, 0.32), (2, 0.576), (3, 0.832), (4, 1.088), (5, 1.344)]


@pytest.mark.parametrize(
    ("reason", "scored"), [("stopped", ["000001"]), ("finished", ["000001", "000001_344"])], ids=["stopped", "finished"]
)
def test_snapshots_of_stops_are_left_out(tmp_path, reason, scored):
    write(tmp_path, TICKS, ["000000", "000000_576", "000001", "000001_200", "000001_344"], reason)
    assert [path.stem[17:] for path in scored_snapshots(tmp_path)] == scored


def test_a_stop_before_the_first_due_tick(tmp_path):
    write(tmp_path, TICKS[:3], ["000000", "000000_576"])
    assert scored_snapshots(tmp_path) == []


def test_snapshots_are_in_order_of_their_numbers(tmp_path):
    write(tmp_path, [(4, 999_999.0), (8, 1_000_000.0)], ["1000000", "999999"])
    assert [path.stem[17:] for path in scored_snapshots(tmp_path)] == ["999999", "1000000"]
