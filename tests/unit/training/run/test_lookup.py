from pathlib import Path

import pytest

from dnnlib.errors import UserError
from training.run.lookup import SHIPPED, find_network, is_checkpoint, newest_networks, require_network
from training.run.options_file import write_options


def new_run(folder, *names):
    folder.mkdir(parents=True)
    write_options(folder, {})
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("names", "newest"),
    [
        (["network-snapshot-000000.pkl", "network-snapshot-000200.pkl"], "network-snapshot-000200.pkl"),
        (["network-snapshot-000012.pkl", "network-snapshot-000012_008.pkl"], "network-snapshot-000012_008.pkl"),
        (["network-snapshot-000012_400.pkl", "network-snapshot-000012_512.pkl"], "network-snapshot-000012_512.pkl"),
        (["network-snapshot-1000000.pkl", "network-snapshot-999999.pkl"], "network-snapshot-1000000.pkl"),
        (
            ["network-snapshot-000004.pkl", "training-state-000009000.safetensors"],
            "training-state-000009000.safetensors",
        ),
        (["network-snapshot-000009.pkl", "training-state-000009600.safetensors"], "network-snapshot-000009.pkl"),
        (["training-state-000009600.safetensors.damaged", "fakes000000.png"], None),
    ],
)
def test_the_newest_networks_of_a_run(tmp_path, names, newest):
    run_dir = new_run(tmp_path / "00000-cats", *names)
    found = newest_networks(run_dir)
    assert (None if found is None else found.name) == newest
    if newest is not None:
        assert find_network(str(run_dir)) == str(found)


def test_the_latest_run_that_has_networks(tmp_path, monkeypatch):
    for name, *files in (
        ("00000-a", "network-snapshot-000000.pkl"),
        ("00001-b", "network-snapshot-000000.pkl"),
        ("00002-c",),
    ):
        new_run(tmp_path / "runs" / name, *files)
    monkeypatch.chdir(tmp_path)
    assert find_network("latest") == "runs/00001-b/network-snapshot-000000.pkl"
    assert find_network(str(tmp_path / "runs")) == str(tmp_path / "runs/00001-b/network-snapshot-000000.pkl")
    (tmp_path / "latest").touch()
    assert find_network("latest") == "latest"


@pytest.mark.parametrize("network", ["https://example.com/net.pkl", "net.pkl", "training-state-000000004.safetensors"])
def test_everything_else_stays_as_it_is(tmp_path, monkeypatch, network):
    monkeypatch.chdir(tmp_path)
    assert find_network(network) == network


def test_a_folder_without_runs_stays_as_it_is(tmp_path):
    (tmp_path / "config.json").touch()
    assert find_network(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize("name", SHIPPED)
def test_generators_that_ship(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = Path(find_network(name))
    assert (folder / "README.md").is_file()
    assert (folder / "model.safetensors").stat().st_size < 3_000_000
    (tmp_path / name).mkdir()
    assert find_network(name) == name, "a file or folder of this name is meant"


def test_there_is_nothing_yet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^--network=latest: no run in .*runs has saved networks; give a snapshot or"):
        find_network("latest")
    run_dir = new_run(tmp_path / "runs/00000-a")
    with pytest.raises(UserError, match=r"^--resume=.*00000-a: this run has saved neither a snapshot nor a checkpoint"):
        find_network(str(run_dir), "--resume")


def test_what_names_nothing_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for network in ("latest", *SHIPPED, "https://example.com/net.pkl", str(tmp_path)):
        require_network(network, "--network")
    require_network("noresume", "--resume", names=["noresume"])
    with pytest.raises(UserError, match=r"^--resume is empty: give a snapshot"):
        require_network("", "--resume")
    with pytest.raises(
        UserError, match=r"^--network=lates: no such file or folder \(known names: latest, scenes32\); give"
    ):
        require_network("lates", "--network")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match=r"^--resume=loop: its links lead in a circle"):
        require_network("loop", "--resume")
    for network in ("runs/lates", "net.pkl"):
        with pytest.raises(UserError, match=f"^--source={network}: no such file or folder; give a snapshot .*, a run"):
            require_network(network, "--source")


def test_checkpoints_are_told_by_their_names():
    assert is_checkpoint("runs/00000-a/training-state-000009600.safetensors")
    assert not is_checkpoint("https://example.com/net.pkl")
    assert not is_checkpoint("model.safetensors")
