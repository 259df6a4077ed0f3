"""Each sign of trouble is provoked, and statistics of runs that go well give none."""

import json

import numpy as np
import pytest

from training.run.health.history import DIVERSITY, LEAK, NEAREST_REAL, WINDOW_TICKS
from training.run.health.monitor import Monitor
from training.run.health.replay import replay

OPTIONS = {
    "total_kimg": 1000,
    "ada_target": 0.6,
    "ada_max_p": 0.9,
    "augment_kwargs": {"class_name": "training.augment.AugmentPipe"},
    "metrics": ["fid50k_full"],
}
HEALTHY = {
    "Loss/G/loss": 2.8,
    "Loss/D/loss": 0.45,
    "Loss/signs/real": 0.86,
    "Loss/signs/fake": -0.93,
    "Progress/augment": 0.4,
    "Health/nonfinite_grads/Gmain": 0,
    DIVERSITY: 0.9,
    NEAREST_REAL: 0.8,
    LEAK: 1.5,
}


def tick(kimg, **_):
    return {name: {"num": 1, "mean": value, "std": 0.0} for name, value in {"Progress/kimg": kimg, **_}.items()}


def run(lines, options=OPTIONS):
    """Ticks of 4 kimg each; returns the kinds of the signs that are on after each, and the monitor."""
    monitor, kinds = Monitor(options), []
    for number, line in enumerate(lines):
        monitor.add_tick(tick(4 * number, **{**HEALTHY, **line}))
        kinds.append(monitor.kinds())
    return kinds, monitor


def only_text(monitor):
    (warning,) = monitor.warnings
    return warning.text


def test_a_healthy_run():
    wobble = [{DIVERSITY: 0.9 + 0.01 * (i % 3), "Loss/signs/real": 0.93 - 0.2 * (i % 2)} for i in range(30)]
    kinds, monitor = run(wobble)
    assert kinds == [[]] * 30
    assert monitor.seen == {}
    assert monitor.alarms() == {}


def test_the_first_grids_show_nothing():
    """Colorful patterns of untrained networks, then a moving average that is all but grey, then images."""
    kinds, _ = run([{DIVERSITY: value, NEAREST_REAL: 3.0} for value in (3.3, 2.9, 0.9, 0.45, 0.5, 0.6, 0.7)])
    assert kinds == [[]] * 7


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"Health/nonfinite_grads/Gmain": 7}, "7 gradient values per step of phase Gmain were not finite and were"),
        ({"Loss/G/loss": None}, "Loss/G/loss is not finite"),
        ({"Loss/D/loss": 101.0}, "Loss/D/loss is 101,"),
    ],
)
def test_divergence(line, words):
    kinds, monitor = run([{}, line])
    assert kinds == [[], ["divergence"]]
    assert words in only_text(monitor)
    assert "--glr" in only_text(monitor)
    assert not monitor.has_diverged
    assert run([{}, line, line])[1].has_diverged
    assert not run([{}, line, {}, line])[1].has_diverged
    assert list(monitor.alarms()) == ["Health/alarm/divergence"]


def test_the_discriminator_far_ahead():
    ahead = {"Loss/signs/real": 0.98, "Loss/signs/fake": -0.96}
    kinds, monitor = run([ahead] * WINDOW_TICKS)
    assert kinds == [[]] * (WINDOW_TICKS - 1) + [["discriminator_ahead"]]
    assert "told at least 98.0%" in only_text(monitor)
    assert "--gamma" in only_text(monitor)
    last = {"Loss/signs/real": 0.999, "Loss/signs/fake": -0.999}
    assert "told at least 98.0%" in only_text(run([ahead] * (WINDOW_TICKS - 1) + [last])[1])
    assert run([ahead] * 9 + [{}] + [ahead] * 9)[0][-1] == []
    assert run([{**ahead, "Loss/signs/fake": 0.99}] * 20)[0][-1] == []  # it takes all for real


def test_augmentation_at_its_limit():
    kinds, monitor = run([{"Progress/augment": 0.9}] * WINDOW_TICKS)
    assert kinds[-1] == ["augmentation_at_limit", "augmentation_may_leak"]
    assert kinds[-2] == []
    assert "limit of 0.9" in monitor.warnings[0].text
    assert "--cbase" in monitor.warnings[0].text
    assert run([{"Progress/augment": 0.89}] * WINDOW_TICKS)[0][-1] == ["augmentation_may_leak"]
    assert run([{"Progress/augment": 0.8}] * WINDOW_TICKS)[0][-1] == []


def test_augmentation_that_is_not_adaptive_or_does_not_leak_has_no_limit():
    fixed = {**OPTIONS, "ada_target": None}
    assert run([{"Progress/augment": 1.0}] * WINDOW_TICKS, fixed)[0][-1] == []
    of_method = {**OPTIONS, "ada_max_p": None, "augment_kwargs": {"class_name": "baselines.diffaug.DiffAugment"}}
    assert run([{"Progress/augment": 1.0}] * WINDOW_TICKS, of_method)[0][-1] == []


def test_leaks():
    kinds, monitor = run([{}, {LEAK: 0.4}, {LEAK: 0.25}])
    assert kinds == [[], [], ["augmentation_leaks"]]
    assert "4.0 times closer to augmented images" in only_text(monitor)
    assert "--ada-max-p" in only_text(monitor)


@pytest.mark.parametrize(
    ("values", "is_leak"), [((0.8, 0.707, 0.709), True), ((0.707, 0.77), False), ((0.77, 0.707), False)]
)
def test_one_direction_is_a_leak_if_two_grids_have_it(values, is_leak):
    """Samples that are all turned the same way have 1 / sqrt(2); those of a run that has just begun 0.77 and more."""
    kinds, _ = run([{LEAK: value} for value in values])
    assert (kinds[-1] == ["augmentation_leaks"]) == is_leak


def test_grids_of_one_image():
    """The diversity is exactly 0 each time, and each tick repeats what was measured last, in float32."""
    monitor = Monitor(OPTIONS)
    monitor.add_tick(tick(0, **{DIVERSITY: 0.9}))
    for kimg, is_collapsed in ((40, False), (80, True)):
        monitor.add_measurements({DIVERSITY: 0.0})
        assert ("mode_collapse" in monitor.kinds()) == is_collapsed
        monitor.add_tick(tick(kimg, **{DIVERSITY: 0.0}))
        assert ("mode_collapse" in monitor.kinds()) == is_collapsed


def test_the_ticks_after_a_grid_repeat_it():
    monitor = Monitor(OPTIONS)
    for kimg, measured in ((0, 1 / 3), (40, 2 / 3)):
        monitor.add_measurements({DIVERSITY: measured})
        for _ in range(3):
            monitor.add_tick(tick(kimg, **{DIVERSITY: float(np.float32(measured))}))
    assert monitor.history.measured[DIVERSITY] == [1 / 3, 2 / 3]


def test_mode_collapse():
    kinds, monitor = run([{}, {DIVERSITY: 0.3}, {DIVERSITY: 0.2}])
    assert kinds == [[], [], ["mode_collapse"]]
    assert "by 20% of what real images do, down from 90%" in only_text(monitor)
    assert "--gamma" in only_text(monitor)


def test_one_grid_is_not_enough():
    """Its values stand in every line of stats.jsonl until the next grid."""
    low = {DIVERSITY: 0.2, NEAREST_REAL: 0.2, LEAK: 0.2}
    assert run([{}, *[low] * 20])[0] == [[]] * 21


def test_samples_that_were_never_different():
    kinds, monitor = run([{DIVERSITY: 0.1 + 0.001 * i} for i in range(8)])
    assert kinds == [[]] * 5 + [["mode_collapse"]] * 3  # from 20 kimg on
    assert "down from" not in only_text(monitor)


def test_memorization():
    kinds, monitor = run([{}, {NEAREST_REAL: 0.3}, {NEAREST_REAL: 0.2}])
    assert kinds == [[], [], ["memorization"]]
    assert "closer to one than 20% of the usual distance" in only_text(monitor)
    assert "--aug=ada" in only_text(monitor)


def scored(values, name="fid50k_full"):
    monitor = Monitor(OPTIONS)
    monitor.add_tick(tick(4, **HEALTHY))
    for number, value in enumerate(values, start=1):
        monitor.add_score(100.0 * number, name, value)
    return monitor


def test_stagnation():
    assert scored([50, 20, *[25] * 7]).warnings == []
    monitor = scored([50, 20, *[25] * 8])
    assert monitor.kinds() == ["stagnation"]
    assert "its best value 20 was at 200 kimg and it is 25 now" in only_text(monitor)
    assert scored([50 - i for i in range(20)]).warnings == []
    assert scored([*range(100, 40, -3), *[45] * 8]).warnings == []  # 8 of 28 scores are no long time yet


def test_scores_of_which_more_is_better():
    assert scored([1, 2, *[1.5] * 8], "is50k_mean").kinds() == ["stagnation"]
    assert scored([i / 2 for i in range(12)], "is50k_mean").warnings == []


def test_what_was_on_is_remembered():
    _, monitor = run([{}, {"Loss/D/loss": 200.0}, {"Loss/D/loss": 300.0}, {}])
    assert monitor.warnings == []
    (first, last, sign) = monitor.seen["divergence"]
    assert (first, last, sign.value) == (4, 8, 300)


def test_only_what_is_new_is_returned():
    monitor = Monitor(OPTIONS)
    bad = {**HEALTHY, "Loss/D/loss": 200.0}
    assert [len(monitor.add_tick(tick(4, **line))) for line in (bad, bad, HEALTHY, bad)] == [1, 0, 0, 1]


def test_replay_of_files(tmp_path):
    lines = [tick(4 * i, **{**HEALTHY, "Loss/signs/real": 0.98, "Loss/signs/fake": -0.99}) for i in range(12)]
    (tmp_path / "stats.jsonl").write_text("".join(json.dumps({**line, "timestamp": 1.0}) + "\n" for line in lines))
    records = [
        {"results": {"fid50k_full": value}, "snapshot_pkl": f"network-snapshot-{100 * i:06d}.pkl"}
        for i, value in enumerate([50, 20, *[25] * 8], start=1)
    ]
    (tmp_path / "metric-fid50k_full.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records[::-1]))
    assert replay(tmp_path, OPTIONS).kinds() == ["discriminator_ahead", "stagnation"]


def test_replay_judges_each_score_when_it_was_found(tmp_path):
    ticks = [tick(5 * i, **HEALTHY) for i in range(1, 21)]
    (tmp_path / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in ticks))
    values = {kimg: 20 if kimg <= 5 else 25 for kimg in range(5, 70, 5)} | {70: 10, 75: 10, 110: 30}
    records = [
        {"results": {"fid50k_full": value}, "snapshot_pkl": f"network-snapshot-{kimg:06d}.pkl"}
        for kimg, value in values.items()
    ]
    (tmp_path / "metric-fid50k_full.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    monitor = replay(tmp_path, OPTIONS)
    assert monitor.warnings == []
    first_kimg, last_kimg, sign = monitor.seen["stagnation"]
    assert (first_kimg, sign.value) == (45, 12)
    assert last_kimg == 70  # the tick was there before its score
    assert monitor.history.scores[-1] == (110, 30)  # of a tick that stats.jsonl lacks


def test_replay_leaves_out_scores_of_other_images(tmp_path):
    records = [
        {
            "results": {"fid50k_full": value},
            "snapshot_pkl": f"network-snapshot-{kimg:06d}.pkl",
            "protocol": {"real_fingerprint": images, "device": device},
        }
        for kimg, value, images, device in [
            *[(4, 20, "a", "cpu"), (8, 30, "b", "cpu"), (12, 29, "b", "cuda")],
            (12, 5, "c", "cpu"),  # by calc_metrics.py: the first record of a snapshot counts
        ]
    ]
    (tmp_path / "metric-fid50k_full.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert replay(tmp_path, OPTIONS).history.scores == [(8, 30), (12, 29)]


@pytest.mark.parametrize(
    "line",
    [{}, {"Loss/D/loss": 3}, {"Loss/D/loss": {"num": 1, "mean": "x"}}, {"Progress/kimg": {"num": "", "mean": []}}],
)
def test_lines_that_are_no_statistics(line):
    assert Monitor({}).add_tick(line) == []
