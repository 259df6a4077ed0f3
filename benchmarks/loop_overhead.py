"""What training costs beside the phases: the loop around them, loading images, saving a state.

``python -m benchmarks.loop_overhead --res 32 --cbase 4096 --batch 16`` runs the real loop on random images in an
uncompressed zip and takes the time of the phases out of that of its iterations; what is left is waiting for images,
the moving average, augmentation control and counting. Then it reads 64 px images with one worker, and saves the state
of networks for 256 px at StyleGAN2's full width.
"""

from __future__ import annotations

import io
import json
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np
import PIL.Image
import torch
from torch.utils.data import DataLoader, RandomSampler

from training import checkpoint
from training.dataset import ImageFolderDataset
from training.phases import Phase
from training.run.dataset_info import DatasetInfo
from training.run.flags import Flags
from training.run.options import resolve
from training.run.stats_file import read_ticks
from training.training_loop import training_loop

NUM_IMAGES = 256
NUM_TICKS = 10
LOADING_PX, LOADING_BATCH, NUM_LOADED = 64, 32, 32768
STATE_PX, STATE_CHANNEL_BASE = 256, 32768


@click.command()
@click.option("--res", "side_px", type=int, default=32, show_default=True)
@click.option("--cbase", type=int, default=4096, show_default=True)
@click.option("--batch", type=int, default=16, show_default=True)
@click.option("--iterations", "tick_iterations", type=int, default=4, show_default=True, help="Per tick.")
@click.option("--threads", type=int, default=2, show_default=True)
def main(side_px: int, cbase: int, batch: int, tick_iterations: int, threads: int) -> None:
    """Measure, and print one JSON line."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        figures = {
            **measure_overhead(Path(folder), side_px, cbase, batch, tick_iterations),
            "loaded_images_per_sec": measure_loading(Path(folder)),
            **measure_state(Path(folder)),
        }
    size = {"res": side_px, "cbase": cbase, "batch": batch, "threads": threads, "torch": torch.__version__}
    print(json.dumps({**size, **{name: round(value, 4) for name, value in figures.items()}}))


def measure_overhead(folder: Path, side_px: int, cbase: int, batch: int, tick_iterations: int) -> dict[str, float]:
    """Shares of an iteration; medians over ticks, without the first, which warms up."""
    phase_sec: list[float] = []
    sums_sec: list[float] = []  # of all phases so far, at the end of each tick
    batch_kimg = batch / 1000
    with mock.patch.object(Phase, "run", timed(Phase.run, phase_sec)):
        ticks = run_loop(
            folder,
            side_px,
            total_kimg=(1 + NUM_TICKS * tick_iterations) * batch_kimg,
            kimg_per_tick=tick_iterations * batch_kimg,
            progress_fn=lambda *_: sums_sec.append(sum(phase_sec)),
            cbase=cbase,
            batch=batch,
        )
    tick_sec = [line["Timing/sec_per_tick"]["mean"] for line in ticks[1:]]
    waits = [line["Timing/data_wait_frac"]["mean"] for line in ticks[1:]]
    phases_per_tick_sec = np.diff(sums_sec)
    overheads = [1 - phases / whole for phases, whole in zip(phases_per_tick_sec, tick_sec, strict=True)]
    return {
        "iteration_sec": statistics.median(tick_sec) / tick_iterations,
        "overhead_frac": float(statistics.median(overheads)),
        "data_wait_frac": statistics.median(waits),
    }


def measure_loading(folder: Path) -> float:
    """Return how many images per second one worker reads, decodes and puts into batches."""
    dataset = ImageFolderDataset(str(write_images(folder, LOADING_PX)))
    sampler = RandomSampler(dataset, replacement=True, num_samples=NUM_LOADED)
    loader = iter(DataLoader(dataset, LOADING_BATCH, sampler=sampler, num_workers=1))
    next(loader)  # the worker is there
    begin = time.perf_counter()
    num_batches = sum(1 for _ in loader)
    return num_batches * LOADING_BATCH / (time.perf_counter() - begin)


def measure_state(folder: Path) -> dict[str, float]:
    """Return the seconds from the tensors in memory to the synchronized, checksummed file, and its size."""
    save_sec: list[float] = []
    with mock.patch.object(checkpoint, "save_checkpoint", timed(checkpoint.save_checkpoint, save_sec)):
        run_loop(folder, STATE_PX, total_kimg=0.004, kimg_per_tick=1, cbase=STATE_CHANNEL_BASE, batch=4)
    (path,) = folder.glob(f"run{STATE_PX}/*.safetensors")
    return {"state_sec": save_sec[-1], "state_gib": path.stat().st_size / 2**30}


def run_loop(
    folder: Path,
    side_px: int,
    total_kimg: float,
    kimg_per_tick: float,
    progress_fn: Callable[[int, float], None] | None = None,
    **flags: Any,
) -> list[dict[str, Any]]:
    """Train on random images; the statistics of each tick."""
    settings = {"cfg": "stylegan2", "fp32": True, "metrics": (), "workers": 1, **flags}
    dataset = DatasetInfo("random", side_px, NUM_IMAGES, has_labels=False)
    kwargs = resolve(Flags(data=str(write_images(folder, side_px)), **settings), dataset)
    kwargs.update(image_snapshot_ticks=None, network_snapshot_ticks=None)
    kwargs.update(total_kimg=total_kimg, kimg_per_tick=kimg_per_tick)
    run_dir = folder / f"run{side_px}"
    run_dir.mkdir()
    # The grid is drawn outside of ticks, but it would take most of the time.
    with mock.patch("training.image_grid.grid_size", return_value=(1, 1)):
        training_loop(run_dir=str(run_dir), progress="none", progress_fn=progress_fn, **kwargs)
    return [tick.line for tick in read_ticks(run_dir)]


def write_images(folder: Path, side_px: int) -> Path:
    """Write an uncompressed zip of random images."""
    path = folder / f"{side_px}.zip"
    rng = np.random.RandomState(0)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number in range(NUM_IMAGES):
            buffer = io.BytesIO()
            pixels = rng.randint(256, size=[side_px, side_px, 3], dtype=np.uint8)
            PIL.Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
            archive.writestr(f"{number:04d}.png", buffer.getvalue())
    return path


def timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """``function``, whose calls add their times to ``seconds``."""

    def call(*args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        result = function(*args, **kwargs)
        seconds.append(time.perf_counter() - begin)
        return result

    return call


if __name__ == "__main__":
    main()
