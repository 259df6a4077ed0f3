import io
import os
import pickle
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import legacy
from tests import tiny_snapshot
from tests.malicious_pickles import all_malicious_pickles
from tests.tiny_snapshot import described, images
from training.run.options_file import write_options
from training.snapshots.portable import save_portable


def test_the_loader_keeps_its_name():
    snapshot = tiny_snapshot.snapshot()
    assert legacy.load_network_pkl(io.BytesIO(pickle.dumps(snapshot))).keys() == snapshot.keys()


def run_cli(*arguments: str):
    return CliRunner().invoke(legacy.convert_network_pickle, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("flags", "num_fp16_res"), [([], 0), (["--force-fp16"], 4), (["--force-fp16=1"], 4), (["--force-fp16", "false"], 0)]
)
def test_cli_converts(flags, num_fp16_res, tmp_path):
    snapshot = tiny_snapshot.snapshot()
    source, dest = tmp_path / "source.pkl", tmp_path / "dest.pkl"
    source.write_bytes(pickle.dumps(described(snapshot, "nothing that could be executed")))
    result = run_cli("--source", source, *flags, "--dest", dest)
    assert result.exit_code == 0, result.output
    loaded = legacy.load_network_pkl(io.BytesIO(dest.read_bytes()), trusted=True)
    assert loaded["G"].init_kwargs.synthesis_kwargs.get("num_fp16_res", 0) == num_fp16_res
    assert torch.equal(images(loaded["G_ema"]), images(snapshot["G_ema"].eval()))


def test_cli_errors_are_one_line(tmp_path):
    (tmp_path / "bad.pkl").write_bytes(all_malicious_pickles(tmp_path)["os.system"])
    (tmp_path / "good.pkl").write_bytes(pickle.dumps(tiny_snapshot.snapshot()))
    for source, dest in (("missing.pkl", "a.pkl"), ("bad.pkl", "a.pkl"), ("good.pkl", "missing/a.pkl")):
        result = run_cli("--source", tmp_path / source, "--dest", tmp_path / dest)
        assert result.exit_code == 1
        assert result.output.startswith("Error: ")
        assert len(result.output.splitlines()) == 1
        assert ".tmp" not in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.pkl", "good.pkl"]


def test_cli_executes_only_on_request(tmp_path):
    canary = tmp_path / "canary"
    (tmp_path / "x.pkl").write_bytes(all_malicious_pickles(canary)["os.system"])
    for flags, is_executed in (([], False), (["--trust-pickle"], True)):
        run_cli("--source", tmp_path / "x.pkl", "--dest", tmp_path / "y.pkl", *flags)
        assert canary.exists() == is_executed


def test_a_snapshot_is_not_replaced_by_its_conversion(tmp_path):
    path = tmp_path / "snapshot.pkl"
    path.write_bytes(b"precious")
    flags = [f"--source={path}", f"--dest={tmp_path}/./snapshot.pkl"]
    result = CliRunner().invoke(legacy.convert_network_pickle, flags)
    assert result.output == f"Error: {path} would replace --source={path}: choose another folder or name\n"
    assert path.read_bytes() == b"precious"


def test_the_latest_run_is_converted_but_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_dir = Path("runs/00000-cats")
    run_dir.mkdir(parents=True)
    write_options(run_dir, {})
    snapshot = run_dir / "network-snapshot-000200.pkl"
    snapshot.write_bytes(pickle.dumps(tiny_snapshot.snapshot()))
    before = snapshot.read_bytes()
    for source in ("latest", run_dir):
        result = run_cli("--source", source, "--dest", snapshot)
        assert result.output == f"Error: {snapshot} would replace --source={snapshot}: choose another folder or name\n"
        assert snapshot.read_bytes() == before
    assert run_cli("--source", "latest", "--dest", "converted.pkl").exit_code == 0


def test_only_files_are_replaced(tmp_path):
    (tmp_path / "good.pkl").write_bytes(pickle.dumps(tiny_snapshot.snapshot()))
    os.mkfifo(tmp_path / "pipe")
    result = run_cli("--source", tmp_path / "good.pkl", "--dest", tmp_path / "pipe")
    assert result.output.startswith(f"Error: {tmp_path / 'pipe'} is not a regular file")
    assert (tmp_path / "pipe").is_fifo()


def test_folders_that_are_no_runs(tmp_path):
    save_portable(tmp_path / "exported", tiny_snapshot.generator())
    (tmp_path / "empty").mkdir()
    said = "is an exported generator, without the G and D of a snapshot; give a snapshot (.pkl) or a run folder"
    for source, words in (
        ("scenes32", said),
        (tmp_path / "exported", said),
        (tmp_path / "empty", "is a folder without a run; give a snapshot (.pkl) or a run folder"),
    ):
        result = run_cli("--source", source, "--dest", tmp_path / "a.pkl")
        assert result.exit_code == 1
        assert result.output.count("\n") == 1
        assert words in result.output
