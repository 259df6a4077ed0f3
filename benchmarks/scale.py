"""What grows with the number of images: opening a dataset, the memory of its loader processes, labels, the sampler.

``python -m benchmarks.scale`` makes zips of 10^4 to 3 * 10^5 small PNGs in a temporary folder (up to 10^6 with
``--max=1000000``) and prints a JSON line for each size, all from a process of its own. Opening and Python's
``zipfile.ZipFile(path)`` are timed in turns.
"""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import click
import numpy as np
import PIL.Image
import psutil
from torch.utils.data import DataLoader

from torch_utils.misc import InfiniteSampler
from training.data.archive import open_archive
from training.data.archive_base import METADATA_FILE
from training.data.codec import encode_uncompressed_png
from training.data.spool import temporary_file
from training.data.stored_zip import StoredZip
from training.dataset import ImageFolderDataset

SIZES = (100, 10_000, 30_000, 100_000, 300_000, 1_000_000)
SIDE_PX, NUM_CLASSES = 16, 1000
NUM_WORKERS, BATCH_SIZE, NUM_BATCHES = 2, 32, 50
NUM_ROUNDS = 3
NUM_ADVANCED = 100_000


@click.command()
@click.option("--max", "max_images", type=int, default=300_000, show_default=True, help="Largest number of images.")
@click.option("--folders/--no-folders", default=True, show_default=True, help="Whether to measure folders too.")
def main(max_images: int, folders: bool) -> None:
    """Measure, and print one JSON line per number of images."""
    for num_images in (size for size in SIZES if size <= max_images):
        # A new process for each size: what one leaves in memory would be shared with the workers of the next.
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
            figures = executor.submit(measure, num_images, folders).result()
        print(json.dumps({"images": num_images, **{name: round(value, 4) for name, value in figures.items()}}))


def measure(num_images: int, folders: bool) -> dict[str, float]:
    """Return the times in seconds and memory in MiB."""
    with tempfile.TemporaryDirectory() as temp:
        path = write_zip(Path(temp, "images.zip"), num_images)
        figures = {
            **measure_workers(path),
            **measure_opening(path),
            "open_with_labels_sec": seconds(lambda: ImageFolderDataset(path, use_labels=True)),
            "fingerprint_sec": seconds(open_archive(path).fingerprint),
            **measure_sampler(num_images),
        }
        if folders:
            folder = write_folder(Path(temp, "images"), num_images)
            figures["open_folder_sec"] = seconds(lambda: ImageFolderDataset(folder))
        return figures


def measure_workers(path: Path) -> dict[str, float]:
    """Start of two loader processes, and the memory that each has to itself after some batches."""
    dataset = ImageFolderDataset(path)
    sampler = InfiniteSampler(dataset)
    loader = DataLoader(dataset, BATCH_SIZE, sampler=sampler, num_workers=NUM_WORKERS, multiprocessing_context="fork")
    begin = time.perf_counter()
    batches = iter(loader)
    next(batches)
    first_batch_sec = time.perf_counter() - begin
    for _ in range(NUM_BATCHES):
        next(batches)
    workers = psutil.Process().children()
    own_bytes = [worker.memory_full_info().uss for worker in workers]
    return {"first_batch_sec": first_batch_sec, "worker_mib": statistics.mean(own_bytes) / 2**20}


def measure_opening(path: Path) -> dict[str, float]:
    """Return the medians over rounds in which both are timed."""
    zipfile_sec, open_sec = [], []
    for _ in range(NUM_ROUNDS):
        zipfile_sec.append(seconds(lambda: zipfile.ZipFile(path).close()))
        open_sec.append(seconds(lambda: ImageFolderDataset(path)))
    ratios = [ours / theirs for ours, theirs in zip(open_sec, zipfile_sec, strict=True)]
    return {
        "open_sec": statistics.median(open_sec),
        "zipfile_sec": statistics.median(zipfile_sec),
        "open_to_zipfile": statistics.median(ratios),
    }


def measure_sampler(num_images: int) -> dict[str, float]:
    """Start of the order of images, and counting some of them as done."""
    begin = time.perf_counter()
    sampler = InfiniteSampler(range(num_images))
    next(iter(sampler))
    sampler_sec = time.perf_counter() - begin
    advance_sec = seconds(lambda: sampler.advance(NUM_ADVANCED))
    return {"sampler_sec": sampler_sec, "advance_usec_per_image": advance_sec / NUM_ADVANCED * 1e6}


def seconds(function: Callable[[], object]) -> float:
    """Time of one call."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def write_zip(path: Path, num_images: int) -> Path:
    """The same image many times, and labels."""
    png = BytesIO(image())
    labels = [[name(index), index % NUM_CLASSES] for index in range(num_images)]
    with open(path, "wb") as file, temporary_file(path.parent) as directory:
        archive = StoredZip(file, directory)
        for index in range(num_images):
            archive.add(name(index), png)
        archive.add(METADATA_FILE, BytesIO(json.dumps({"labels": labels}).encode()))
        archive.close()
    return path


def write_folder(path: Path, num_images: int) -> Path:
    """The same image many times."""
    png = image()
    for index in range(num_images):
        file = path / name(index)
        if index % 1000 == 0:
            file.parent.mkdir(parents=True)
        file.write_bytes(png)
    return path


def name(index: int) -> str:
    """Return the path of an image, as ``dataset_tool.py`` writes it."""
    return f"{index // 1000:05d}/img{index:08d}.png"


def image() -> bytes:
    """Return a small PNG."""
    pixels = np.random.RandomState(0).randint(256, size=(SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    return encode_uncompressed_png(PIL.Image.fromarray(pixels))


if __name__ == "__main__":
    main()
