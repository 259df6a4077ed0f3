import os

import pytest

from training.run.names import (
    GridName,
    find_grids,
    grid_file_name,
    grid_name,
    list_snapshots,
    newest_snapshot,
    snapshot_kimg,
    snapshot_name,
)


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


@pytest.mark.parametrize("nimg", [0, 64, 12_500, 999_999_999, 1_000_000_000])
def test_names_are_read_as_they_are_written(nimg):
    assert snapshot_kimg(snapshot_name(nimg)) == nimg // 1000
    assert snapshot_kimg(snapshot_name(nimg, is_exact=True)) == nimg / 1000
    for is_unaveraged in (False, True):
        name = grid_name(grid_file_name(nimg, True, is_unaveraged))
        assert name == GridName(nimg / 1000, False, is_unaveraged)


def test_snapshots_are_listed_by_number(tmp_path):
    assert (list_snapshots(tmp_path), newest_snapshot(tmp_path)) == ([], None)
    names = ["000000", "000012", "000012_008", "200000", "999999", "1000000", "1000000_512"]
    for name in (*sorted(names), "best", "1000001.pkl.tmp"):
        (tmp_path / f"network-snapshot-{name}.pkl").touch()
    assert [path.stem.removeprefix("network-snapshot-") for _kimg, path in list_snapshots(tmp_path)] == names
    assert [kimg for kimg, _path in list_snapshots(tmp_path)] == [0, 12, 12.008, 2e5, 999_999, 1e6, 1_000_000.512]
    assert newest_snapshot(tmp_path).name == "network-snapshot-1000000_512.pkl"


def test_pipes_and_folders_are_not_listed(tmp_path):
    """Reading a pipe in the folder of a run would wait forever."""
    for folder, name in ((tmp_path / "snapshots", "network-snapshot-{}.pkl"), (tmp_path / "grids", "fakes{}.png")):
        folder.mkdir()
        os.mkfifo(folder / name.format("000001"))
        (folder / name.format("000002")).mkdir()
        (folder / name.format("000003")).touch()
        (folder / name.format("000004")).symlink_to(name.format("000003"))
    assert [kimg for kimg, _path in list_snapshots(tmp_path / "snapshots")] == [3, 4]
    assert [name.kimg for name, _path in find_grids(tmp_path / "grids")] == [3, 4]
