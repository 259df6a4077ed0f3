"""Training end to end: every kind of dataset, and the real command with what it prints, writes and survives."""

import json
import os
import pty
import re
import signal
import subprocess

import pytest
import torch
from PIL import Image

import legacy
from tests.image_files import images, write_folder, write_zip
from tests.training_runs import (
    assert_same_outcome,
    complaints,
    everything_random,
    new_run,
    newest_state,
    read_stats,
    run_train,
    states,
    tiny_options,
    train_command,
    train_here,
    wait_for_ticks,
    write_dataset,
)
from training.run.options_file import write_options


@pytest.mark.parametrize(
    ("mode", "side_px", "labeled", "write"),
    [
        ("RGB", 16, True, write_zip),
        ("L", 16, False, write_folder),
        ("RGB", 32, False, write_folder),
        ("L", 32, True, write_zip),
        ("RGB", 64, True, write_folder),
        ("L", 64, False, write_zip),
        pytest.param("RGB", 256, False, write_zip, marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_dataset(tmp_path, mode, side_px, labeled, write):
    files = images(12, size=(side_px, side_px), mode=mode)
    data = write(tmp_path / "data.zip", files, [[name, i % 3] for i, name in enumerate(files)] if labeled else None)
    options = tiny_options(data, 12, cond=labeled, mirror=True, cbase=side_px)
    run_dir = tmp_path / "run"
    assert train_here(run_dir, options, image_snapshot_ticks=1, network_snapshot_ticks=1)
    with Image.open(run_dir / "fakes000000.png") as image:
        assert image.mode == mode
    with open(run_dir / "network-snapshot-000000.pkl", "rb") as file:
        G = legacy.load_network_pkl(file)["G_ema"]
    img = G(torch.randn(2, G.z_dim), torch.eye(2, G.c_dim))
    assert img.shape == (2, {"RGB": 3, "L": 1}[mode], side_px, side_px)
    assert all(tensor.isfinite().all() for tensor in newest_state(run_dir).values())


STATUS_LINE = re.compile(
    r"tick \d+ +kimg [\d.]+ +time .+? +sec/tick [\d.]+ +sec/kimg [\d.]+ +maintenance [\d.]+ +"
    r"cpumem [\d.]+ +gpumem [\d.]+ +augment [\d.]+ eta .+? +data [\d.]+%( warnings [a-z_,]+)?"
)


def run_in_terminal(command):
    """Run a command whose output is a terminal; returns what appears there."""
    terminal, inside = pty.openpty()
    process = subprocess.Popen(command, stdout=inside, stderr=inside)
    os.close(inside)
    shown = b""
    with open(terminal, "rb", buffering=0) as file:
        while True:
            try:
                block = file.read(1 << 16)
            except OSError:  # how Linux tells that nobody writes any more
                break
            if not block:
                break
            shown += block
    assert process.wait() == 0, shown.decode()
    return shown.decode()


@pytest.mark.slow
def test_a_run_in_a_terminal(tmp_path):
    flags = {"batch": 40, "kimg": 1, "tick": 0.2, "snap": 2, "cbase": 64, "cmax": 16, "map_depth": 1, "workers": 1}
    data = write_dataset(tmp_path / "cats.zip")
    shown = run_in_terminal(train_command(outdir=tmp_path, data=data, metrics="none", **flags))
    assert re.search(r"\d+%\|.*img/s\]", shown), "there is a bar"
    assert not re.search(r"img/s\]tick", shown), "it makes way for the status line"
    run_dir = tmp_path / "00000-cats-auto1-kimg1-batch40"
    log = (run_dir / "log.txt").read_text()
    assert log.isascii()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", log)
    lines = [line for line in log.splitlines() if line.startswith("tick ")]
    assert all(STATUS_LINE.fullmatch(line) for line in lines), lines
    assert len(lines) == len(read_stats(run_dir)) == 6
    assert not [line for line in lines if line not in shown]
    kimgs = ("000000", "000000_440", "000000_840", "000001")
    names = {re.sub(r"tfevents.*", "tfevents", path.name) for path in run_dir.iterdir()}
    assert names == {
        *("training_options.json", "log.txt", "stats.jsonl", "exit_status.json", "events.out.tfevents"),
        *("reals.png", "fakes_init.png", *(f"fakes{kimg}.png" for kimg in kimgs)),
        *(f"network-snapshot-{kimg}.pkl" for kimg in kimgs),
        *(".lock", "report.html", "report-files"),
        *(f"training-state-{nimg:09d}.{end}" for nimg in (40, 1000) for end in ("safetensors", "sha256")),
    }


def uninterrupted(run_dir, options):
    """Train in a process that nothing disturbs."""
    result = run_train(**{"continue": new_run(run_dir, options)})
    assert result.returncode == 0, result.stderr
    return run_dir


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    """In a terminal every process of the foreground gets the signal, the workers that load images too."""
    options = tiny_options(write_dataset(tmp_path / "data.zip"), 120, **everything_random(workers=2, batch_gpu=4))
    run_dir = new_run(tmp_path / "00000-run", options)
    command = train_command(f"--continue={run_dir}")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    ) as process:
        wait_for_ticks(run_dir, 3, process)
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    assert complaints(errors) == []
    assert output.splitlines()[-1] == f"Stopped; to continue: python train.py --continue={run_dir}"
    assert json.loads((run_dir / "exit_status.json").read_text())["reason"] == "stopped"
    result = run_train(**{"continue": "latest", "outdir": tmp_path, "gamma": 3})
    assert (result.returncode, complaints(result.stderr)) == (0, [])
    assert "Warning: no effect on a run that is continued: --gamma" in result.stdout
    assert_same_outcome(run_dir, uninterrupted(tmp_path / "whole", options))


@pytest.mark.slow
def test_a_full_disk_keeps_the_previous_state_and_says_so(tmp_path):
    """A limit on the size of files stands for the end of the disk."""
    options = tiny_options(write_dataset(tmp_path / "data.zip"), 40)
    run_dir = uninterrupted(tmp_path / "run", {**options, "total_kimg": 0.004})
    write_options(run_dir, options)
    before = {path.name: path.read_bytes() for path in states(run_dir)}
    limit_kib = len(next(iter(before.values()))) // 2048
    command = [
        "bash",
        "-c",
        f'ulimit -f {limit_kib}; exec "$@"',
        "bash",
        *train_command(f"--continue={run_dir}", state_minutes=0),
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert re.fullmatch(r"Error: .*/run: training has ended without a checkpoint: .*\n", result.stderr)
    assert result.stdout.count("Not written, training goes on: ") == 1
    assert {path.name: path.read_bytes() for path in states(run_dir)} == before
    assert not list(run_dir.glob(".*.tmp"))
    assert run_train(**{"continue": run_dir}).returncode == 0
    assert_same_outcome(run_dir, uninterrupted(tmp_path / "whole", options))
