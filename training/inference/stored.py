"""Vectors in W in a file: directions or centers, with the settings that made them, for one mapping network."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from dnnlib.atomic import write_atomic
from dnnlib.commands import how_to_run
from dnnlib.errors import UserError
from dnnlib.file_content import content_fault

MAX_FILE_BYTES = 1 << 26
MAX_SETTINGS_BYTES = 1 << 16


@dataclass(frozen=True)
class StoredVectors:
    """What a file holds.

    Attributes:
        kind: ``'directions'`` or ``'centers'``.
        vectors: ``[K, w_dim]``, float32; directions have unit length.
        deviations: Standard deviation of w along each direction ``[K]``; ones for centers.
        settings: How they were made: plain data.
    """

    kind: str
    vectors: torch.Tensor
    deviations: torch.Tensor
    settings: dict[str, Any]


def mapping_sha256(G: Any) -> str:
    """Return the checksum of the weights of a mapping network: vectors in W mean nothing for another one.

    A generator whose synthesis network was tuned still has the same one.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(G.mapping.state_dict().items()):
        if name != "w_avg":  # may have been repaired
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_vectors(path: Path, stored: StoredVectors, G: Any) -> None:
    """Write ``<name>.safetensors``, whose metadata holds the settings as JSON.

    Raises:
        OSError: It cannot be written.
    """
    tensors = {"vectors": stored.vectors.float().contiguous(), "deviations": stored.deviations.float().contiguous()}
    metadata = {
        "kind": stored.kind,
        "settings": json.dumps(stored.settings, sort_keys=True),
        "mapping_sha256": mapping_sha256(G),
    }
    write_atomic(path, safetensors.torch.save(tensors, metadata))


def load_vectors(path: Path, kind: str, G: Any) -> StoredVectors:
    """Read what `save_vectors` wrote for the mapping network of ``G``.

    Raises:
        UserError: The file is missing, damaged, of another kind or for another network.
    """
    how = f"{how_to_run('edit.py')} {kind}"
    if not path.is_file():
        raise UserError(f"no such file: {path}; {how} writes one")
    if fault := content_fault(path):
        raise UserError(f"{path} is {fault}")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise UserError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB")
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            # float8 and the like know few operations
            vectors, deviations = (file.get_tensor(name).float() for name in ("vectors", "deviations"))
        settings = json.loads(metadata["settings"][:MAX_SETTINGS_BYTES])
    except Exception as error:  # a damaged header makes the library raise almost anything
        raise UserError(f"{path} cannot be read: {str(error)[:200]!a}; {how} writes such files") from error
    if metadata.get("kind") != kind:
        raise UserError(f"{path} holds {str(metadata.get('kind'))[:50]!a}, not {kind}: {how} writes them")
    if vectors.ndim != 2 or vectors.shape[1] != G.w_dim or deviations.shape != vectors.shape[:1] or not len(vectors):
        raise UserError(f"{path}: this network takes vectors [K, {G.w_dim}], the file has {list(vectors.shape)}")
    if not (torch.isfinite(vectors).all() and torch.isfinite(deviations).all()):
        raise UserError(f"{path} contains values that are not finite")
    if metadata.get("mapping_sha256") != mapping_sha256(G):
        raise UserError(f"{path} was made for another network; recreate it with {how}")
    if not isinstance(settings, dict):
        raise UserError(f"{path}: its settings are not a JSON object")
    return StoredVectors(kind, vectors, deviations, settings)


def check_class(stored: StoredVectors, path: Path, G: Any, class_idx: int | None) -> None:
    """Check that vectors in the file ``path`` were made for the class of ``--class``, if ``G`` has classes.

    Raises:
        UserError: They were made for another one.
    """
    made_for = stored.settings.get("class")
    if G.c_dim and made_for != class_idx:
        raise UserError(f"{path} was made for class {ascii(made_for)[:20]}, not --class={class_idx}")


def stored_layers(directions: StoredVectors, path: Path, G: Any) -> list[int]:
    """Return the layers that directions in the file ``path`` were found for.

    Raises:
        UserError: The file names none of ``G``.
    """
    layers = directions.settings.get("layers")
    if (
        not isinstance(layers, list)
        or not 0 < len(layers) <= G.num_ws
        or not all(type(layer) is int and 0 <= layer < G.num_ws for layer in layers)
    ):
        raise UserError(f"{path}: its settings name no layers of this network; recreate it")
    return layers
