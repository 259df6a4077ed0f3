import pytest

from training.run.dataset_info import DatasetInfo
from training.run.options import Flags, resolve
from training.run.settings import TrainingSettings
from training.run.settings_changes import MAX_SHOWN_CHANGES, comparable_options, describe_changes


@pytest.fixture
def options():
    return resolve(Flags(data="cats.zip"), DatasetInfo("cats", 16, 8, False))


def comparable(options, **changes):
    return comparable_options(TrainingSettings(**{**options, **changes}))


def test_nothing_has_changed(options):
    now = comparable(options, run_dir="elsewhere", device="cuda", rank=1, progress="none", trust_pickle=True)
    assert describe_changes(comparable(options), now) is None


def test_changes_are_named(options):
    changes = {"total_kimg": 7, "metrics": ["fid50k"], "G_kwargs": {**options["G_kwargs"], "z_dim": 8}}
    assert describe_changes(comparable(options), comparable(options, **changes)) == (
        'Settings that have changed since the checkpoint: G_kwargs.z_dim 512 -> 8, metrics ["fid50k_full"] -> '
        '["fid50k"], total_kimg 25000 -> 7'
    )


def test_changes_without_effect_are_named(options):
    edited = {"G_opt_kwargs": {**options["G_opt_kwargs"], "lr": 1, "more": None}}
    assert describe_changes(comparable(options), comparable(options, **edited)) == (
        "Settings that have changed since the checkpoint: G_opt_kwargs.lr 0.0025 -> 1, "
        "G_opt_kwargs.more unset -> null; no effect: G_opt_kwargs, which the checkpoint holds"
    )


def test_settings_that_older_versions_did_not_have_are_not_compared(options):
    before = comparable(options)
    del before["num_bf16_res"]
    assert describe_changes(before, comparable(options, num_bf16_res=3)) is None
    assert describe_changes({}, comparable(options)) is None


def test_changes_are_short_and_printable(options):
    before = {**comparable(options), "G_kwargs": {f"\x1b[2J{index}": "\x1b" * 1000 for index in range(100)}}
    line = describe_changes(before, comparable(options))
    assert line.isprintable()
    assert len(line) < 2000
    assert " more" in line


def test_changes_beyond_the_first_are_counted():
    before, now = ({"G_kwargs": dict.fromkeys("abcdefghijk", value)} for value in (0, 1))
    line = describe_changes(before, now)
    assert line.count(" 0 -> 1") == MAX_SHOWN_CHANGES == 8
    assert line.endswith("G_kwargs.h 0 -> 1 and 3 more")


@pytest.mark.parametrize("name", ["G_opt_kwargs", "D_opt_kwargs", "augment_p", "resume_pkl"])
def test_what_the_checkpoint_holds_has_no_effect(name):
    assert describe_changes({name: 1}, {name: 2}).endswith(
        f": {name} 1 -> 2; no effect: {name}, which the checkpoint holds"
    )
