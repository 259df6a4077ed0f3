"""Folders as trained comparisons leave them, with numbers of one's choice and no networks."""

import json
from pathlib import Path

import numpy as np

from comparison.jobs import Job, write_job
from comparison.plan import PLAN_FILE
from comparison.samples import COLUMNS, ROWS
from training.data.grid import write_png

RESOLUTION = 4
METRICS = ["fd_tiny", "okd_tiny_car"]


def make_job(method="stylegan2", seed=0, **changes) -> Job:
    settings = {
        "flags": [f"--cfg={method.partition('+')[0]}", "--aug=noaug"],
        "dataset": {"name": "a<b>&", "num_images": 7, "resolution": RESOLUTION},
        "data": "/nowhere/scenes.zip",
        "kimg": 3,
        "snapshot_kimg": 1,
        "metrics": METRICS,
        "score_flags": [],
    }
    return Job(method=method, seed=seed, **{**settings, **changes})


def write_run(folder: Path, values: list[float], sec_per_kimg: float, memory_gib: float, job: Job) -> Path:
    """A finished run with a score after every thousand images; its car distance is a hundredth of that."""
    write_job(folder, job)
    run_dir = folder / "00000-scenes"
    run_dir.mkdir(parents=True)
    (run_dir / "training_options.json").write_text("{}")
    (run_dir / "exit_status.json").write_text(json.dumps({"reason": "finished", "kimg": len(values)}))
    ticks = [stats_line(0, 0.001, 0.1, memory_gib)]
    for i in range(1, len(values) + 1):
        ticks.append(stats_line(4 * i, i + 0.008, sec_per_kimg, memory_gib + i))
    (run_dir / "stats.jsonl").write_text("".join(json.dumps(tick) + "\n" for tick in ticks))
    for metric, scale in zip(METRICS, (1, 0.01), strict=True):
        records = [score_line(metric, i + 1, value * scale) for i, value in enumerate(values)]
        lines = [json.dumps(record) for record in reversed(records)]  # the last snapshot is scored first
        (run_dir / f"metric-{metric}.jsonl").write_text("\n".join(lines) + "\n")
    write_png(np.zeros([RESOLUTION * ROWS, RESOLUTION * (COLUMNS + 2), 3], np.uint8), run_dir / "reals.png")
    write_png(np.full([RESOLUTION * ROWS, RESOLUTION * COLUMNS, 3], 99, np.uint8), folder / "samples.png")
    record = {"snapshot_pkl": "network-snapshot-000003.pkl", "seeds": [0, 31], "truncation_psi": 0.7}
    (folder / "samples.json").write_text(json.dumps(record))
    return run_dir


def stats_line(tick: int, kimg: float, sec: float, memory_gib: float) -> dict:
    means = {
        "Progress/tick": tick,
        "Progress/kimg": kimg,
        "Timing/sec_per_tick": sec,
        "Resources/cpu_mem_gb": memory_gib,
        "Resources/peak_gpu_mem_gb": 0.0,
        "Loss/scores/real": 1.0,
        "Loss/scores/fake": -1.0,
    }
    return {name: {"num": 2, "mean": mean, "std": 0.5} for name, mean in means.items()}


def score_line(metric: str, kimg: int, value: float) -> dict:
    return {"results": {metric: value}, "metric": metric, "snapshot_pkl": f"network-snapshot-{kimg:06d}.pkl"}


def write_comparison(outdir: Path) -> Path:
    """Two methods with two seeds: the second is better and takes twice as long."""
    values = {
        "stylegan2": ([30.0, 20.0, 12.0], [34.0, 24.0, 16.0], 10.0),
        "msconD+con-weight=0.1": ([20.0, 10.0, 5.0], [22.0, 12.0, 9.0], 20.0),
    }
    folders = []
    for method, (*seeds, sec) in values.items():
        for seed, scores in enumerate(seeds):
            folder = outdir / method / f"seed{seed}"
            write_run(folder, scores, sec, 1.5, make_job(method, seed))
            folders.append(f"{method}/seed{seed}")
    (outdir / PLAN_FILE).write_text(json.dumps({"cfgs": list(values), "folders": folders}))
    return outdir


def edit_stats(outdir, edit):
    """Change the statistics of each run of msconD: ``edit(seed, i, line)`` changes line i."""
    for path in outdir.glob("msconD*/seed*/*/stats.jsonl"):
        seed = int(path.parts[-3].removeprefix("seed"))
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for i, line in enumerate(lines):
            edit(seed, i, line)
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
