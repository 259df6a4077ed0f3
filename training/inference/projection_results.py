"""Files that a projection writes, and the distances of its results from the targets."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from dnnlib.atomic import write_atomic
from dnnlib.json_file import write_json
from dnnlib.progress import progress_bar
from training.data.grid import write_png
from training.data.video import write_video
from training.inference.distances import distances, format_distances, mean_distances
from training.inference.grid_size import max_rows
from training.inference.sampling import synthesize
from training.inference.targets import Target
from training.inference.video_frames import counted, tile

W_FILE = "projected_w.npz"
"""The w of all targets."""

MAX_COMPARED = 64
"""Rows of comparison.png: the first targets, fewer if images are large."""


class Results:
    """The files of a projection, and the distances of its results from the targets.

    Args:
        outdir: Where the files are written.
        targets: The targets.
        is_numbered: Whether file names have the number of a target.
        features: Feature network.
        distance: Name of the distance in it.
        device: Device of the feature network and of the generator.
    """

    def __init__(
        self,
        outdir: Path,
        targets: Sequence[Target],
        is_numbered: bool,
        features: torch.nn.Module,
        distance: str,
        device: torch.device,
    ) -> None:
        self.outdir = outdir
        self.targets = targets
        self.is_numbered = is_numbered
        self.features, self.distance, self.device = features, distance, device
        self.names: list[str] = []
        self.compared: dict[str, list[np.ndarray]] = {}
        self.distances: dict[str, list[dict[str, float]]] = {}

    def name(self, kind: str, number: int, suffix: str) -> str:
        """Return the file name of an image or video."""
        return f"{kind}{number:02d}{suffix}" if self.is_numbered else f"{kind}{suffix}"

    def paths(self, is_tuned: bool) -> list[Path]:
        """Return every file that a projection may write, with tuned networks or without."""
        kinds = [("target", ".png"), ("proj", ".png"), ("proj", ".mp4"), ("proj", ".webp")]
        if is_tuned:
            kinds += [("tuned", ".png"), ("tuned", ".pkl"), ("tuned", "")]  # the last two: a network, as file or folder
        names = [self.name(kind, i, suffix) for i in range(len(self.targets)) for kind, suffix in kinds]
        shared = [W_FILE, "distances.json", "comparison.png", *["tuned.pkl", "tuned"] * is_tuned]
        return [self.outdir / name for name in [*names, *shared]]

    def write_targets(self) -> None:
        """Write the images of all targets."""
        for number, target in enumerate(self.targets):
            self.write("target", number, target.pixels)

    def write_ws(self, ws: torch.Tensor) -> None:
        """Write the w of the targets that are done, ``[N, L, w_dim]``."""
        write_atomic(self.outdir / W_FILE, functools.partial(np.savez, w=ws.numpy()))

    def write(self, kind: str, number: int, image: np.ndarray) -> None:
        """Write an image of a target; they come in the order of the targets."""
        self.names.append(self.name(kind, number, ".png"))
        write_png(image, self.outdir / self.names[-1])
        if number < MAX_COMPARED:
            self.compared.setdefault(kind, []).append(image)

    def add(self, kind: str, number: int, image: np.ndarray) -> None:
        """Write the result for a target, and measure its distances."""
        self.write(kind, number, image)
        found = distances(image, self.targets[number].pixels, self.features, self.distance, self.device)
        self.distances.setdefault(kind, []).append(found)

    def print_distances(self, kind: str) -> None:
        """Print the mean distances of the results from the targets."""
        found = self.distances[kind]
        of_all = f", mean of {len(found)}" if len(found) > 1 else ""
        click.echo(f"{kind}.png differs from its target: {format_distances(mean_distances(found))}{of_all}")

    def write_summary(self, settings: dict[str, Any]) -> None:
        """Write ``distances.json`` and ``comparison.png``: a row per target."""
        rows = [
            {"number": i, "file": target.file, "square_px": list(target.square)}
            | {kind: values[i] for kind, values in self.distances.items()}
            for i, target in enumerate(self.targets)
        ]
        means = {kind: mean_distances(values) for kind, values in self.distances.items()}
        summary = {**settings, "mean": means, "targets": rows}
        write_json(self.outdir / "distances.json", summary, indent=2)
        kinds = self.compared.values()
        num_rows = min(len(self.targets), MAX_COMPARED, max_rows(len(kinds), self.targets[0].pixels.shape[0]))
        cells = [images[i] for i in range(num_rows) for images in kinds]
        write_png(tile(cells, len(kinds)), self.outdir / "comparison.png")
        self.names += ["distances.json", "comparison.png"]

    def write_videos(self, G: Any, trajectories: Sequence[torch.Tensor]) -> None:
        """Write the trajectory of w ``[steps, 1 or L, w_dim]`` of every target as a video."""
        with progress_bar("frames", sum(map(len, trajectories)), unit="frame") as progress:
            for number, (trajectory, target) in enumerate(zip(trajectories, self.targets, strict=True)):
                path = self.outdir / self.name("proj", number, ".mp4")
                frames = counted(frames_beside_target(G, trajectory.to(self.device), target.pixels), progress)
                self.names.append(write_video(frames, path).name)

    def listing(self) -> str:
        """Return the names of the files; with several targets, those for the first one."""
        if len(self.targets) == 1:
            return ", ".join(self.names)
        # Not the suffix: mp4 has a digit of its own.
        return ", ".join(name for name in self.names if not re.search("[1-9]", Path(name).stem)) + ", ..."


def draw(G: Any, w: torch.Tensor) -> np.ndarray:
    """Return the image of ``w`` [1 or L, w_dim] with the noise maps of the network, uint8 ``[R, R, C]``."""
    image: np.ndarray = synthesize(G, w.expand(1, G.num_ws, -1))[0]
    return image


def frames_beside_target(G: Any, trajectory: torch.Tensor, target: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the target next to the projection after each step of ``trajectory`` [steps, 1 or L, w_dim]."""
    for w in trajectory:
        yield np.concatenate([target, draw(G, w)], axis=1)
