"""A run folder as training leaves it, of any length, without training."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE_PX = 32
COLUMNS, ROWS = 16, 12
OPTIONS = {
    "total_kimg": 100,
    "ada_target": 0.6,
    "ada_max_p": 1.0,
    "augment_kwargs": {"class_name": "training.augment.AugmentPipe"},
    "metrics": ["fid50k_full"],
    "training_set_kwargs": {
        "class_name": "training.dataset.ImageFolderDataset",
        "path": "photos & <b>cats</b>.zip",
        "resolution": SIDE_PX,
    },
}
HEIGHTS = (1, 8, 16)


def write_run(
    run_dir: Path, num_ticks: int = 25, num_grids: int = 4, kimg_per_tick: float = 4, num_more: int = 0, **means: float
) -> Path:
    """Write a run of msconD with scores and grids.

    Args:
        run_dir: The folder.
        num_ticks: Lines of stats.jsonl.
        num_grids: Sample grids and scored snapshots.
        kimg_per_tick: Thousands of images in a tick.
        num_more: Further statistics in each line.
        **means: Means of statistics from the second half on, with ``__`` for ``/``.
    """
    run_dir.mkdir(parents=True)
    total_kimg = num_ticks * kimg_per_tick
    (run_dir / "training_options.json").write_text(json.dumps({**OPTIONS, "total_kimg": total_kimg}))
    status = {"reason": "finished", "kimg": total_kimg, "total_kimg": total_kimg, "name": run_dir.name}
    (run_dir / "exit_status.json").write_text(json.dumps(status))
    changed = {name.replace("__", "/"): value for name, value in means.items()}
    with open(run_dir / "stats.jsonl", "w") as file:
        for tick in range(1, num_ticks + 1):
            values = {
                **_means(tick, kimg_per_tick),
                **{f"Con/more{i}": math.sin(tick / 9 + i) for i in range(num_more)},
            }
            if tick > num_ticks // 2:
                values.update(changed)
            line = {name: {"num": 16, "mean": value, "std": 0.3} for name, value in values.items()}
            file.write(json.dumps({**line, "timestamp": 1.7e9 + tick}) + "\n")
    rng = np.random.default_rng(0)
    _write_grid(run_dir / "reals.png", rng)
    _write_grid(run_dir / "fakes_init.png", rng)
    for i in range(1, num_grids + 1):
        kimg = round(total_kimg * i / num_grids)
        _write_grid(run_dir / f"fakes{kimg:06d}.png", rng)
        snapshot = f"network-snapshot-{kimg:06d}.pkl"
        (run_dir / snapshot).write_bytes(b"networks")
        record = {"results": {"fid50k_full": 300 / i}, "metric": "fid50k_full", "snapshot_pkl": snapshot}
        with open(run_dir / "metric-fid50k_full.jsonl", "a") as file:
            file.write(json.dumps(record) + "\n")
    return run_dir


def stats_line(means: dict[str, Any]) -> str:
    """A line of stats.jsonl with one value of each statistic."""
    return json.dumps({name: {"num": 1, "mean": mean, "std": 0.0} for name, mean in means.items()}) + "\n"


def _means(tick: int, kimg_per_tick: float) -> dict[str, float]:
    wave = math.sin(tick / 5)
    values: dict[str, Any] = {
        "Progress/tick": tick,
        "Progress/kimg": tick * kimg_per_tick,
        "Progress/augment": 0.2 + 0.1 * wave,
        "Timing/total_sec": tick * 60,
        "Timing/sec_per_kimg": 14 + wave,
        "Resources/cpu_mem_gb": 1.5,
        "Resources/peak_gpu_mem_gb": 0,
        "Loss/G/loss": 2 + wave,
        "Loss/D/loss": 0.7 - 0.1 * wave,
        "Loss/r1_penalty": 0.003,
        "Loss/signs/real": 0.6 + 0.1 * wave,
        "Loss/signs/fake": -0.6,
        "Loss/scores/real": 1 + wave,
        "Loss/scores/fake": -1,
        "Health/diversity": 0.8 + 0.001 * (tick % 3),
        "Con/loss": 4 - tick / 1000,
    }
    for height in HEIGHTS:
        values[f"Loss/scores/real_h{height}"] = 1 / height + wave
        values[f"Loss/scores/fake_h{height}"] = -1 / height
        values[f"Con/top1_h{height}"] = 0.5 + 0.1 * wave / height
    return values


def _write_grid(path: Path, rng: np.random.Generator) -> None:
    colors = rng.integers(0, 255, [ROWS * 4, COLUMNS * 4, 3], np.uint8)
    picture = colors.repeat(SIDE_PX // 4, axis=0).repeat(SIDE_PX // 4, axis=1)
    Image.fromarray(picture).save(path)
