"""Training states: everything that exact continuation needs, in files that execute nothing and cannot be half there.

A state is a tree of dicts and lists with tensors and plain values as leaves. On disk it is
``training-state-<nimg>.safetensors``: the tensors, with the rest of the tree as JSON in the header, and beside it a
file ``.sha256``, as no tensor format notices a flipped bit by itself.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from dnnlib.atomic import commit, write_atomic

NUM_KEPT = 2
"""States to keep: if the newest turns out to be damaged, there is the one before."""

_NAME = re.compile(r"training-state-(\d{9,})\.safetensors")
_TENSOR_KEY = "__tensor__"


class DamagedStateError(Exception):
    """A state file that cannot be read back as it was written."""


def save_state(run_dir: Path, cur_nimg: int, tree: dict[str, Any]) -> Path:
    """Write a state so that a crash at any moment leaves the ones before it intact, and drop the oldest.

    Args:
        run_dir: Run folder.
        cur_nimg: Images seen so far; the name of the file.
        tree: Nested dicts and lists of tensors and JSON values; keys are strings.

    Raises:
        OSError: The disk is full, for example; earlier states are untouched.
    """
    path = run_dir / f"training-state-{cur_nimg:09d}.safetensors"
    temp = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    tensors: dict[str, torch.Tensor] = {}
    skeleton = _take_tensors(tree, "", tensors)
    try:
        save_file(tensors, temp, metadata={"tree": json.dumps(skeleton)})
        # The checksum comes first: a state without one, or with another's, counts as damaged.
        write_atomic(_checksum_path(path), f"{_sha256(temp)}\n".encode())
        commit(temp, path)
    except SafetensorError as error:  # how the library reports a full disk
        raise OSError(f"cannot write {path}: {error}") from error
    finally:
        temp.unlink(missing_ok=True)
    for old in list_states(run_dir)[:-NUM_KEPT]:
        old.unlink(missing_ok=True)
        _checksum_path(old).unlink(missing_ok=True)
    return path


def load_state(path: Path) -> dict[str, Any]:
    """Read a state that `find_newest_state` found back as a tree."""
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        skeleton = json.loads(file.metadata()["tree"])
    tree: dict[str, Any] = _put_tensors(skeleton, tensors)
    return tree


def find_newest_state(run_dir: Path) -> tuple[Path | None, list[str]]:
    """Find the newest intact state of a run, and set damaged ones aside as ``<name>.damaged``.

    Returns:
        Its path, or None if there is no state at all, and one line per file that was set aside.

    Raises:
        DamagedStateError: There are states, and all of them are damaged.
    """
    warnings: list[str] = []
    for path in reversed(list_states(run_dir)):
        try:
            _check(path)
            return path, warnings
        except DamagedStateError as error:
            path.replace(path.with_name(path.name + ".damaged"))
            warnings.append(f"{error}; set aside as {path.name}.damaged, using the state before it")
    if warnings:
        raise DamagedStateError(f"no intact training state is left in {run_dir}: " + "; ".join(warnings))
    return None, warnings


def list_states(run_dir: Path) -> list[Path]:
    """Training states of a run, oldest first."""
    found = {int(match[1]): path for path in run_dir.iterdir() if (match := _NAME.fullmatch(path.name))}
    return [found[nimg] for nimg in sorted(found)]


def remove_leftovers(run_dir: Path) -> None:
    """Delete temporary files that a killed process left behind."""
    for path in run_dir.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _check(path: Path) -> None:
    try:
        expected = _checksum_path(path).read_text(encoding="ascii").strip()
        if _sha256(path) != expected:
            raise DamagedStateError(f"{path} does not match its checksum")
    except (OSError, UnicodeError) as error:
        raise DamagedStateError(f"{path} cannot be read: {error}") from error


def _checksum_path(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _take_tensors(tree: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """A copy of ``tree`` whose tensors are moved to ``tensors`` and replaced by their names."""
    if isinstance(tree, torch.Tensor):
        # A copy of its own for each: the format refuses tensors that share memory.
        tensors[name] = tree.detach().to("cpu", copy=True).contiguous()
        return {_TENSOR_KEY: name}
    if isinstance(tree, dict):
        return {str(key): _take_tensors(value, f"{name}/{key}", tensors) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_take_tensors(value, f"{name}/{i}", tensors) for i, value in enumerate(tree)]
    return tree


def _put_tensors(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(tree, dict):
        if _TENSOR_KEY in tree:
            return tensors[tree[_TENSOR_KEY]]
        return {key: _put_tensors(value, tensors) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_put_tensors(value, tensors) for value in tree]
    return tree
