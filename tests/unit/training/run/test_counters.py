from training.run.counters import Counters


def test_the_state_of_other_versions_is_restored():
    counters = Counters(cur_nimg=1)
    counters.load_state_dict({"cur_nimg": 7, "batch_idx": 2, "planned_for_sec": 8.0})
    assert counters == Counters(cur_nimg=7, batch_idx=2)


def test_all_counters_are_restored():
    counters = Counters()
    counters.load_state_dict(Counters(cur_nimg=7, unscored_snapshot="network-snapshot-000007.pkl").state_dict())
    assert counters == Counters(cur_nimg=7, unscored_snapshot="network-snapshot-000007.pkl")
