"""Feature statistics of real images on disk, keyed by the content of the dataset and not by its path."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from dnnlib.cache_folder import make_cache_dir_path
from dnnlib.errors import UserError
from metrics.feature_stats import FeatureStats

_FORMAT = 1
"""Part of every key: increasing it invalidates all files of older versions."""


def stats_path(**key: Any) -> Path | None:
    """Return the path of the file for statistics that ``key`` (plain JSON values) determines; None without a cache."""
    text = json.dumps({"format": _FORMAT, **key}, sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:32]
    try:
        return Path(make_cache_dir_path("metrics", f"{name}.npz"))
    except UserError as err:
        print(f"Cannot cache the statistics of the real images: {err}")
        return None


def load_stats(path: Path | None, stats_kwargs: dict[str, Any]) -> FeatureStats | None:
    """Read statistics; None if the path is None, or the file is missing or damaged.

    Args:
        path: What `stats_path` returned, or None to use no cache.
        stats_kwargs: Arguments of the `FeatureStats` that were saved.
    """
    if path is None or not path.is_file():
        return None
    try:
        stats = FeatureStats.load(path, **stats_kwargs)
    except (OSError, ValueError) as err:
        print(f"Computing the statistics of the real images again: {err}")
        return None
    print(f"Using cached statistics of the real images: {path}")
    return stats


def save_stats(path: Path | None, stats: FeatureStats) -> None:
    """Write statistics; a cache that cannot be written is reported and otherwise ignored."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stats.save(path)
    except OSError as err:
        print(f"Cannot cache the statistics of the real images: {err}")
