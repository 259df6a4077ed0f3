"""Make the archives beside this file: runs that were stopped, and what they become when nothing stops them.

They come from commit 3e9d356 (26 November 2026), the last one before ``training/`` was divided into folders. To make
them again, run this file in a checkout of that commit::

    python /path/to/this/make.py

Each archive holds ``data.zip``; ``run/``, a run folder as a user would have it; ``final.json``, what the same run ended
with when it was not stopped: a hash of every tensor of its last checkpoint, and its statistics; the tensors themselves,
``final.safetensors``; and the one with all classes, msconD, the last snapshot of that run, ``snapshot.pkl``.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))

import torch
from safetensors.torch import save_file

from tests.training_runs import (
    everything_random,
    newest_state,
    reproducible_stats,
    signal_in_iteration,
    states,
    tiny_options,
    write_dataset,
)

HERE = Path(__file__).parent
TOTAL_NIMG = 84
"""21 iterations, so that R1, in every 16th, comes before and after the stop."""
STOP_IN_ITERATION = 6
"""In the middle of a tick; ticks end after iterations 1, 4, 7, ..."""
SMALL = {"cbase": 32, "cmax": 8, "z_dim": 4}
RUNS: dict[str, dict[str, Any]] = {
    "stylegan2": everything_random(**SMALL),
    "msconD": everything_random(
        cfg="msconD", settings={"scales": [1, 8], "con_ramp_kimg": 0.05, "proj_dim": 8}, **SMALL
    ),
}
REPRODUCIBLE = {
    "OMP_NUM_THREADS": "1",
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
}
"""Environment in which every x86-64 processor computes the same bits."""


def tensor_hash(tensor: torch.Tensor) -> str:
    """Of type, shape and values."""
    content = f"{tensor.dtype} {list(tensor.shape)}".encode() + tensor.detach().contiguous().numpy().tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def train(run_dir: Path, stop_in_iteration: int | None) -> int:
    """Begin or continue a run in a process of its own, in the folder that holds the data; returns its exit status."""
    command = [sys.executable, __file__, "--train", run_dir.name, str(stop_in_iteration or 0)]
    environment = {**os.environ, **REPRODUCIBLE, "PYTHONPATH": str(Path.cwd())}
    return subprocess.run(command, cwd=run_dir.parent, env=environment).returncode


def train_this(name: str, stop_in_iteration: str) -> None:
    import train

    with signal_in_iteration(int(stop_in_iteration) or None):
        train.main([f"--continue={name}", "--device=cpu", "--progress=none"])


def make(name: str, folder: Path) -> None:
    write_dataset(folder / "data.zip", num=12)
    options = tiny_options(folder / "data.zip", TOTAL_NIMG, **RUNS[name])
    options.update(network_snapshot_ticks=1000)  # one after the first tick, one at the end
    options["training_set_kwargs"]["path"] = "data.zip"
    run_dir, whole_dir = folder / "run", folder / "whole"
    for path in (run_dir, whole_dir):
        path.mkdir()
        (path / "training_options.json").write_text(json.dumps(options, indent=2) + "\n")
    assert train(run_dir, STOP_IN_ITERATION) == 75
    assert train(whole_dir, None) == 0
    final = {
        "tensors": {name: tensor_hash(tensor) for name, tensor in newest_state(whole_dir).items()},
        "stats": reproducible_stats(whole_dir),
    }
    (folder / "final.json").write_text(json.dumps(final))
    save_file(newest_state(whole_dir), folder / "final.safetensors")
    state = states(run_dir)[-1]
    kept = [run_dir / "training_options.json", run_dir / "stats.jsonl", state, state.with_suffix(".sha256")]
    kept += [folder / "data.zip", folder / "final.json", folder / "final.safetensors"]
    if name == "msconD":
        kept.append(next(whole_dir.glob("*.pkl")).rename(folder / "snapshot.pkl"))
    with zipfile.ZipFile(HERE / f"{name}.zip", "w", zipfile.ZIP_LZMA) as archive:
        for path in kept:
            archive.write(path, path.relative_to(folder))


def main() -> None:
    for name in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            make(name, Path(folder))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:
        train_this(*sys.argv[2:])
    else:
        main()
