"""A summary of a run before it starts, with the memory and disk space that it needs."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import torch

from dnnlib.commands import page
from dnnlib.formatting import format_time, plural
from training.run.dataset_info import DatasetInfo
from training.run.folder import existing_parent
from training.run.memory import describe_memory
from training.run.preflight import check_networks
from training.run.settings import TrainingSettings
from training.run.time_plan import describe_length, num_ticks

BYTES_PER_FLOAT = 4


def describe_run(settings: TrainingSettings, dataset: DatasetInfo, outdir: Path, device: torch.device) -> str:
    """Describe a run in a few lines, with an estimate of its memory and disk space next to what there is.

    Raises:
        ValueError: Settings contradict each other or the dataset.
    """
    num_G, num_D = check_networks(settings, dataset)
    snapshot_gib = BYTES_PER_FLOAT * (2 * num_G + num_D) / 2**30
    checkpoint_gib = BYTES_PER_FLOAT * (4 * num_G + 3 * num_D) / 2**30
    num_snapshots = _num_snapshots(settings)
    disk_gib = 3 * checkpoint_gib + num_snapshots * snapshot_gib
    free_gib = shutil.disk_usage(existing_parent(outdir)).free / 2**30
    method = settings.D_kwargs["class_name"].rpartition(".")[2]
    lines = [
        f"Images:     {dataset.num_images} of {dataset.resolution} px, {dataset.label_summary}",
        f"Networks:   G {num_G / 1e6:.1f} M parameters, D {num_D / 1e6:.1f} M ({method})",
        f"Batch:      {plural(settings.batch_size, 'image')}, {plural(settings.num_gpus, 'process')}, "
        f"{settings.batch_gpu} per pass",
        _describe_length(settings),
        *describe_memory(settings, dataset, device),
        f"Disk:       about {disk_gib:.1f} GiB for {plural(num_snapshots, 'snapshot')} and the checkpoints, "
        f"{free_gib:.1f} GiB free",
    ]
    if disk_gib > free_gib:
        lines.append("Warning: the disk may run full; raise --snap, lower --kimg or choose another --outdir")
    if settings.num_bf16_res and not _is_bfloat16_fast(device):
        lines.append(f"Warning: bfloat16 is slower than float32 here; see {page('training.md')}")
    return "\n".join(lines)


def _is_bfloat16_fast(device: torch.device) -> bool:
    """Return whether the device computes in bfloat16: on CPUs only AMX pays (docs/training.md)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return capabilities.get("amx_bf16", False)


def _describe_length(settings: TrainingSettings) -> str:
    ticks = settings.network_snapshot_ticks or math.inf
    limit_sec = settings.time_limit_sec
    if limit_sec is None:
        every = f"{settings.kimg_per_tick * ticks:g} kimg"
    else:
        every = format_time(limit_sec / num_ticks(limit_sec) * min(ticks, num_ticks(limit_sec)))
    return f"Length:     {describe_length(settings.total_kimg, limit_sec)}; samples and a snapshot every {every}"


def _num_snapshots(settings: TrainingSettings) -> int:
    if settings.network_snapshot_ticks is None:
        return 0
    if settings.time_limit_sec is not None:
        return math.ceil(num_ticks(settings.time_limit_sec) / settings.network_snapshot_ticks) + 1
    return math.ceil(settings.total_kimg / settings.kimg_per_tick / settings.network_snapshot_ticks) + 1
