import pytest

from training.run.names import GridName, grid_name, snapshot_kimg


@pytest.mark.parametrize(
    ("name", "kimg"),
    [
        ("network-snapshot-000000.pkl", 0),
        ("network-snapshot-000012_500.pkl", 12.5),
        ("network-snapshot-025000.pkl", 25000),
        ("network-snapshot-best.pkl", None),
        ("network-snapshot-000012.pkl.tmp", None),
        ("network-snapshot-" + "9" * 5000 + ".pkl", None),
        ("fakes000012.png", None),
    ],
)
def test_snapshots(name, kimg):
    assert snapshot_kimg(name) == kimg


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fakes_init.png", GridName(0, is_initial=True, is_unaveraged=False)),
        ("fakes000000.png", GridName(0, is_initial=False, is_unaveraged=False)),
        ("fakes000000_900_G.png", GridName(0.9, is_initial=False, is_unaveraged=True)),
        ("fakes000200_016.png", GridName(200.016, is_initial=False, is_unaveraged=False)),
        ("fakes.png", None),
        ("reals.png", None),
    ],
)
def test_grids(name, said):
    assert grid_name(name) == said
