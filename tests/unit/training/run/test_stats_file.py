"""What counts as a tick and as measured, among damaged lines."""

import json

import pytest

from tests.fake_run import stats_line
from training.run.stats_file import STATS_FILE, read_series, read_ticks

DAMAGED = [
    *("", "oops\n", "\n", "null\n", "[1, 2]\n", "[" * 100_000 + "\n", "1" * 10_000 + "\n", '{"Progress/kimg": 16}\n'),
    *(stats_line({"Progress/kimg": kimg, "a": 7}) for kimg in (None, "16", True, [16], float("nan"), 10**400, 1e31)),
    json.dumps({"Progress/kimg": {"num": 0, "mean": 16, "std": 0}, "a": {"num": 1, "mean": 7, "std": 0}}) + "\n",
    stats_line({"a": 7}),
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / STATS_FILE


@pytest.mark.parametrize("line", DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_lines_are_passed_over_and_the_others_keep_their_numbers(path, line):
    first, last = (stats_line({"Progress/kimg": kimg, "a": kimg + 1}) for kimg in (4, 8))
    path.write_text(first + line + last + '{"Progress/k')
    last_number = 3 if line else 2
    assert [(tick.number, tick.kimg, tick.mean("a")) for tick in read_ticks(path.parent)] == [
        (1, 4, 5),
        (last_number, 8, 9),
    ]
    series = read_series(path.parent)
    assert series.keys() == {"Progress/kimg", "a"}
    assert [column.tolist() for column in series["a"]] == [[1, last_number], [4, 8], [5, 9], [0, 0]]


@pytest.mark.parametrize(
    "entry",
    [
        *(3.0, None, "high", [], {}, {"num": 9, "mean": 1}, {"mean": 1, "std": 0}, {"num": 0, "mean": 1, "std": 0}),
        *({"num": 9, "std": 1, "mean": mean} for mean in (None, "1", True, [1], float("inf"), 10**400, 1e31)),
        *({"num": 9, "mean": 1, "std": std} for std in (None, "1", float("nan"))),
        *({"mean": 1, "std": 0, "num": num} for num in ("9", True, -1)),
    ],
)
def test_what_is_no_statistic_was_not_measured(path, entry):
    line = json.loads(stats_line({"Progress/kimg": 4}))
    path.write_text(json.dumps({**line, "a": entry, "timestamp": 1.5}) + "\n")
    (tick,) = read_ticks(path.parent)
    assert [tick.mean(name) for name in ("a", "timestamp", "missing")] == [None, None, None]
    assert read_series(path.parent).keys() == {"Progress/kimg"}


def test_a_run_without_statistics(tmp_path):
    assert list(read_ticks(tmp_path)) == []
    assert read_series(tmp_path) == {}


def test_part_of_a_series(path):
    path.write_text("".join(stats_line({"Progress/kimg": kimg, "a": -kimg}) for kimg in (1, 2, 3, 4)))
    part = read_series(path.parent)["a"].between(2.0000005, 3)
    assert (part.number.tolist(), part.kimg.tolist(), part.mean.tolist()) == ([2, 3], [2, 3], [-2, -3])
