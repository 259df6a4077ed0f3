"""The files of a run, as the training loop writes them: a full disk does not end training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torch_utils import misc, training_stats
from training import checkpoint
from training.data.grid import save_image_grid
from training.image_grid import SampleGrid
from training.run.console import Console
from training.run.counters import Counters
from training.run.log import RunLog
from training.run.names import REALS_FILE
from training.run.settings import TrainingSettings
from training.run.status import write_status
from training.snapshots.portable import save_portable
from training.snapshots.save import save_snapshot

CHECKPOINT = "a checkpoint"
SNAPSHOT = "the network snapshot"
STATUS = "the status"


class Outputs:
    """Writes the files of a run; only the main process calls its methods.

    What cannot be written is said once, until it is written again, and at the end (`missing`).

    Args:
        settings: Settings of the run.
        samples: Latents, labels and layout of the sample grids.
        console: Where to say what is not written.
        log_bytes: Length of ``stats.jsonl`` to keep, as for `RunLog`.
        counters: Progress of the run.

    Raises:
        UserError: As for `RunLog`.
    """

    def __init__(
        self, settings: TrainingSettings, samples: SampleGrid, console: Console, log_bytes: int, counters: Counters
    ) -> None:
        self._settings = settings
        self._samples = samples
        self._console = console
        self._run_dir = Path(settings.run_dir)
        self._unwritten: dict[str, str] = {}
        self._log = RunLog(self._run_dir, log_bytes, counters.cur_nimg, counters.steps_per_kimg, settings.log)
        self._is_open = True

    @property
    def log_bytes(self) -> int:
        """Length of ``stats.jsonl`` so far."""
        return self._log.num_bytes

    def write_stats(
        self, cur_nimg: int, stats: training_stats.Collector, alarms: Mapping[str, Mapping[str, float]]
    ) -> None:
        """Add the statistics of a tick to ``stats.jsonl`` and the event files."""
        self._try_to_write("stats.jsonl", lambda: self._log.write(cur_nimg, stats, alarms))

    def write_metrics(self, cur_nimg: int, values: dict[str, float]) -> None:
        """Add metric values to the event files."""
        self._try_to_write("event files", lambda: self._log.write_metrics(cur_nimg, values))

    def save_real_images(self) -> None:
        """Save the real images whose layout the grids of samples have."""
        self._save_grid(REALS_FILE, self._samples.real_img, (0, 255))

    def save_samples(self, name: str, generator: Any, cur_nimg: int, title: str = "Samples") -> np.ndarray:
        """Draw the grid of samples, save it and add it to the event files.

        Args:
            name: File name.
            generator: Generator in evaluation mode.
            cur_nimg: Images seen.
            title: Name in the event files.

        Returns:
            The samples, float32 ``[N, C, H, W]`` of about [-1, 1].
        """
        with self._console.doing(f"drawing {name}"):
            images = self._samples.draw(generator, self._settings.batch_gpu)
        self._save_grid(name, images, (-1, 1))
        columns = self._samples.size[0]
        self._try_to_write("event files", lambda: self._log.write_samples(title, cur_nimg, images, columns))
        return images

    def save_snapshot(self, path: Path, networks: Mapping[str, torch.nn.Module]) -> None:
        """Save a snapshot, and the generator without code if ``snapshot_formats`` asks for it.

        Args:
            path: The ``.pkl``.
            networks: By their names in snapshots.
        """
        content = {"augment_pipe": None, **networks}
        is_written = self._try_to_write(
            SNAPSHOT, lambda: save_snapshot(path, content, self._settings.training_set_kwargs)
        )
        # Else the run folder may have been moved away, and must not be made anew: the run would be in two places.
        if is_written and "safetensors" in self._settings.snapshot_formats:
            self._try_to_write(path.stem, lambda: save_portable(path.with_suffix(""), networks["G_ema"]))

    def save_checkpoint(self, cur_nimg: int, tree: checkpoint.Tree, networks: Mapping[str, torch.nn.Module]) -> bool:
        """Save a checkpoint, unless a weight is not finite: then the last good one stays.

        Returns:
            Whether to wait until the next one is due; False if this one could not be written.
        """
        tensors = [tensor for network in networks.values() for tensor in misc.params_and_buffers(network)]
        if not all(bool(tensor.isfinite().all()) for tensor in tensors):
            self._unwritten[CHECKPOINT] = "the weights are not finite"
            self._console.say("The weights are not finite: no checkpoint written, the last good one stays")
            return True
        return self._try_to_write(
            CHECKPOINT,
            lambda: checkpoint.save_checkpoint(self._run_dir, cur_nimg, tree),
            "; a checkpoint is tried again after each tick",
        )

    def write_status(self, reason: str, kimg: float, total_kimg: float, **details: Any) -> None:
        """Record whether the run is running or how it ended, as `training.run.status.write_status`."""
        self._try_to_write(STATUS, lambda: write_status(self._run_dir, reason, kimg, total_kimg, **details))

    def close(self) -> None:
        """Close ``stats.jsonl`` and the event files, once."""
        if self._is_open:
            self._is_open = False
            self._try_to_write("stats.jsonl", self._log.close)

    def missing(self, *names: str) -> str | None:
        """Say why the first of some files has not been written; None if all have been."""
        return next((f"{name}: {self._unwritten[name]}" for name in names if name in self._unwritten), None)

    def _save_grid(self, name: str, images: np.ndarray, drange: tuple[int, int]) -> None:
        path, size = self._run_dir / name, self._samples.size
        self._try_to_write(name, lambda: save_image_grid(images, path, drange=drange, grid_size=size))

    def _try_to_write(self, what: str, write: Callable[[], Any], what_next: str = "") -> bool:
        """Write a file and return whether that worked; the first failure in a row is said, and the success after it."""
        try:
            write()
        except OSError as error:
            if what not in self._unwritten:
                self._console.say(f"Not written, training goes on: {error}{what_next}")
            self._unwritten[what] = str(error)
            return False
        if self._unwritten.pop(what, None) is not None:
            self._console.say(f"Written again: {what}")
        return True
