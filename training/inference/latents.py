"""Latents for a command: those of seeds, truncated, or those in a file of projector.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from training.inference import options
from training.inference.centers import truncate
from training.inference.projected_w import load_projected_w
from training.inference.sampling import check_truncation, map_seeds
from training.inference.stored import check_class, load_vectors
from training.inference.truncation import Sweep


@dataclass(frozen=True)
class SeedLatents:
    """Latents of seeds.

    Attributes:
        G: The generator.
        numbers: The seeds.
        label: Label of all of them, ``[1, c_dim]``.
        centers: Truncate towards the nearest of these, ``[K, w_dim]``; None for the mean of w.
        name: File name of an image.
    """

    G: Any
    numbers: Sequence[int]
    label: torch.Tensor
    centers: torch.Tensor | None = None
    name: str = "seed{:04d}.png"

    def ws(self, numbers: Sequence[int], psi: float) -> torch.Tensor:
        """Return the ws ``[N, L, w_dim]`` of some of the seeds."""
        if self.centers is None:
            return map_seeds(self.G, numbers, self.label, psi)
        return truncate(map_seeds(self.G, numbers, self.label), self.centers, psi)


@dataclass(frozen=True)
class ProjectedLatents:
    """Latents in a file of projector.py.

    Attributes:
        projected: ws ``[N, L, w_dim]``.
        name: File name of an image.
    """

    projected: torch.Tensor
    name: str = "proj{:02d}.png"

    @property
    def numbers(self) -> Sequence[int]:
        """Numbers in the file."""
        return list(range(len(self.projected)))

    def ws(self, numbers: Sequence[int], psi: float) -> torch.Tensor:
        """Return the ws ``[N, L, w_dim]`` of some of them; they are not truncated."""
        return self.projected[list(numbers)]


Latents = SeedLatents | ProjectedLatents


def seed_latents(
    G: Any,
    seeds: Sequence[int],
    trunc: float | Sweep,
    class_idx: int | None,
    device: torch.device,
    centers: Path | None = None,
) -> SeedLatents:
    """Check what the options of seeds ask for.

    Raises:
        UserError: The network cannot do it, or the centers are for another network or class.
    """
    label = options.choose_label(G, class_idx, device)
    if centers is None:
        for psi in (trunc.low, trunc.high) if isinstance(trunc, Sweep) else (trunc,):
            check_truncation(G, psi)
        return SeedLatents(G, seeds, label)
    stored = load_vectors(centers, "centers", G)
    check_class(stored, centers, G, class_idx)
    return SeedLatents(G, seeds, label, stored.vectors)


def choose_latents(
    G: Any,
    seeds: list[int],
    projected_w: Path | None,
    trunc: float | Sweep,
    class_idx: int | None,
    centers: Path | None,
    device: torch.device,
) -> Latents:
    """Return the latents of --seeds or --projected-w; warn about options without effect."""
    if centers is not None and projected_w is None and trunc == 1:
        options.warn("--centers has no effect at --trunc=1; give a lower one, such as --trunc=0.5")
    if projected_w is None:
        return seed_latents(G, seeds, trunc, class_idx, device, centers)
    if seeds or class_idx is not None or trunc != 1:
        options.warn("--seeds, --class and --trunc have no effect on --projected-w")
    if centers is not None:
        options.warn("--centers has no effect on --projected-w")
    return ProjectedLatents(load_projected_w(projected_w, G, device))


def flags_for_next(G: Any, class_idx: int | None, is_trusted: bool) -> list[str]:
    """Return the flags that the next command for the same network also needs."""
    of_class = [f"--class={class_idx}"] if G.c_dim else []
    return of_class + ["--trust-pickle"] * is_trusted
