import pytest

from comparison.paths import with_absolute_paths
from dnnlib.errors import UserError
from training.run.options_file import write_options


def test_paths_mean_the_same_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.pkl").touch()
    (tmp_path / "detectors").mkdir()
    flags = ["--resume=my.pkl", "--detectors", "detectors", "--batch=16", "--mirror=1", "my.pkl"]
    assert with_absolute_paths(flags) == [
        *(f"--resume={tmp_path}/my.pkl", "--detectors", f"{tmp_path}/detectors"),
        *("--batch=16", "--mirror=1", "my.pkl"),
    ]


def test_paths_of_metrics(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("held-out.zip", "boxes.onnx", "scenes"):  # the last has the name of a detector
        (tmp_path / name).touch()
    flags = ["--metricdata=held-out.zip", "--object-detector=boxes.onnx", "--object-detector=scenes"]
    expected = [f"--metricdata={tmp_path}/held-out.zip", f"--object-detector={tmp_path}/boxes.onnx", flags[2]]
    assert with_absolute_paths(flags) == expected


def test_what_is_no_file_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--resume=https://example.com/my.pkl", "--data=missing.zip"]
    assert with_absolute_paths(flags) == flags


def test_runs_become_the_snapshot_that_they_mean_now(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_dir = tmp_path / "runs/00000-run"
    run_dir.mkdir(parents=True)
    write_options(run_dir, {})
    with pytest.raises(UserError, match="--resume=latest: no run in"):
        with_absolute_paths(["--resume=latest"])
    snapshot = run_dir / "network-snapshot-000001.pkl"
    snapshot.touch()
    for name in ("latest", "runs", "runs/00000-run"):
        assert with_absolute_paths([f"--resume={name}"]) == [f"--resume={snapshot}"]
