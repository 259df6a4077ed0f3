"""Checkpoints: everything that exact continuation needs, in files that contain no code and are written atomically.

A checkpoint is a tree of dicts and lists whose leaves are tensors and plain values. On disk it is
``training-state-<nimg>.safetensors``: the tensors, with the rest of the tree as JSON in the header, and beside it a
``.sha256``, because the format itself does not notice a flipped bit.

What is saved is a mapping from names to objects with ``state_dict`` and ``load_state_dict``. A slash in a name nests
the tree. Objects below ``ranks/`` differ between processes: each process saves and restores its own.
"""

from __future__ import annotations

import errno
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from dnnlib.atomic import commit, write_atomic
from dnnlib.errors import UserError
from dnnlib.file_content import sha256_of
from torch_utils import distributed
from training.checkpoint_names import checkpoint_name, list_checkpoints

NUM_KEPT = 2
"""Checkpoints to keep: if the newest turns out to be damaged, the one before it is used."""

DAMAGE_ERRORS = (errno.ENOENT, errno.EIO)
"""A missing checksum and an unreadable disk are damage; other errors of reading may go away."""
LEFTOVERS = (".*.tmp", ".tmp??????")
"""Names of temporary files: ours, and those that the library of safetensors writes before it takes the given name."""
_TENSOR_KEY = "__tensor__"


class CheckpointError(UserError):
    """A checkpoint that is damaged, or that does not fit the run."""


class Stateful(Protocol):
    """An object whose state a checkpoint can hold."""

    def state_dict(self) -> Any:
        """Return the state as a tree of tensors and JSON values."""

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Restore what `state_dict` returned."""


Tree = dict[str, Any]
"""Nested dicts and lists of tensors and JSON values. Keys are strings, or whole numbers as optimizers use them."""


def collect(stateful: Mapping[str, Stateful]) -> Tree:
    """Return the state of every object as a tree; every process must call this, with the same names."""
    tree: Tree = {"num_gpus": distributed.world_size()}
    for name, thing in stateful.items():
        group, _, key = name.rpartition("/")
        (tree.setdefault(group, {}) if group else tree)[key] = thing.state_dict()
    # On the CPU: a CUDA tensor would arrive on the device of its owner in every process.
    tree["ranks"] = distributed.gather(_map_tensors(tree.get("ranks", {}), lambda tensor: tensor.cpu()))
    return tree


def restore(stateful: Mapping[str, Stateful], tree: Tree) -> None:
    """Put a tree of `collect` into objects that were constructed with the same settings, in the order of the names.

    Raises:
        CheckpointError: The tree is from another number of processes, or does not fit an object.
    """
    num_gpus, ranks = tree.get("num_gpus"), tree.get("ranks")
    if type(num_gpus) is int and num_gpus != distributed.world_size():
        raise CheckpointError(f"was written with --gpus={num_gpus}; continue with as many processes")
    if not (type(num_gpus) is int and isinstance(ranks, list) and len(ranks) == num_gpus):
        raise CheckpointError("is damaged: it lacks the states of its processes")
    own = {**tree, "ranks": ranks[distributed.rank()]}
    for name, thing in stateful.items():
        group, _, key = name.rpartition("/")
        try:
            thing.load_state_dict((own[group] if group else own)[key])
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise CheckpointError(f"the saved {name} does not fit: {ascii(' '.join(lines[:2])[:300])[1:-1]}") from error


def save_checkpoint(run_dir: Path, cur_nimg: int, tree: Tree) -> Path:
    """Write a checkpoint and remove the oldest; a crash at any moment leaves the earlier ones intact.

    Args:
        run_dir: Run folder.
        cur_nimg: Images seen so far, which the file name contains.
        tree: Content of the checkpoint.

    Raises:
        OSError: For example, the disk is full; earlier checkpoints are untouched.
    """
    path = run_dir / checkpoint_name(cur_nimg)
    temp = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    tensors: dict[str, torch.Tensor] = {}
    skeleton = _take_tensors(tree, "", tensors)
    try:
        save_file(tensors, temp, metadata={"tree": json.dumps(skeleton)})
        # The checksum comes first: a file without one, or with another file's, counts as damaged.
        write_atomic(_checksum_path(path), f"{sha256_of(temp)}\n".encode())
        commit(temp, path)
    except SafetensorError as error:  # how the library reports a full disk
        raise OSError(f"cannot write {path}: {error}") from error
    finally:
        temp.unlink(missing_ok=True)
    for old in list_checkpoints(run_dir)[:-NUM_KEPT]:
        old.unlink(missing_ok=True)
        _checksum_path(old).unlink(missing_ok=True)
    return path


def load_checkpoint(path: Path) -> Tree:
    """Read a checkpoint that `find_newest_checkpoint` returned.

    Raises:
        CheckpointError: The file is not a checkpoint.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            skeleton = json.loads(file.metadata()["tree"])
        tree: Tree = _put_tensors(skeleton, tensors)
        if not isinstance(tree, dict):
            raise TypeError("not a dict")
    except (SafetensorError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} does not hold a checkpoint ({type(error).__name__})") from error
    return tree


def read_dataset_record(path: Path) -> dict[str, Any]:
    """Read the record of the dataset in a checkpoint, without its tensors; empty if it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads(file.metadata()["tree"])["dataset"]
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def find_newest_checkpoint(run_dir: Path) -> tuple[Path | None, list[str]]:
    """Find the newest intact checkpoint of a run, and rename damaged ones to ``<name>.damaged``.

    Returns:
        Its path, or None if there are no checkpoints, and one line for each file that was renamed.

    Raises:
        CheckpointError: There are checkpoints, and all of them are damaged.
    """
    warnings: list[str] = []
    for path in reversed(list_checkpoints(run_dir)):
        problem = find_damage(path)
        if problem is None:
            return path, warnings
        path.replace(path.with_name(path.name + ".damaged"))
        warnings.append(f"{problem}; renamed to {path.name}.damaged, trying the checkpoint before it")
    if warnings:
        raise CheckpointError(f"no intact checkpoint is left in {run_dir}: " + "; ".join(warnings))
    return None, warnings


def remove_leftovers(run_dir: Path) -> None:
    """Delete temporary files that a killed process has left behind."""
    for pattern in LEFTOVERS:
        for path in run_dir.glob(pattern):
            path.unlink(missing_ok=True)


def find_damage(path: Path) -> str | None:
    """Say what is wrong with a checkpoint; None if it is intact.

    Raises:
        OSError: It cannot be read now, as when a network drive is gone, which says nothing about its content.
    """
    try:
        words = _checksum_path(path).read_text(encoding="ascii").split()  # sha256sum adds the name of the file
        return None if words[:1] == [sha256_of(path)] else f"{path} does not match its checksum"
    except UnicodeError as error:
        return f"{path} cannot be read: {error}"
    except OSError as error:
        if error.errno not in DAMAGE_ERRORS:
            raise
        return f"{path} cannot be read: {error}"


def _checksum_path(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _map_tensors(tree: Any, function: Any) -> Any:
    """Return a copy of ``tree`` with ``function`` applied to its tensors."""
    if isinstance(tree, torch.Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {key: _map_tensors(value, function) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_map_tensors(value, function) for value in tree]
    return tree


def _take_tensors(tree: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Return a copy of ``tree`` whose tensors have moved to ``tensors``, their names in their places."""
    if isinstance(tree, torch.Tensor):
        # Each gets a copy of its own: the format refuses tensors that share memory.
        tensors[name] = tree.detach().to("cpu", copy=True).contiguous()
        return {_TENSOR_KEY: name}
    if isinstance(tree, dict):
        return {str(key): _take_tensors(value, f"{name}/{key}", tensors) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_take_tensors(value, f"{name}/{i}", tensors) for i, value in enumerate(tree)]
    return tree


def _put_tensors(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Undo `_take_tensors`. JSON has text keys only, so those that were whole numbers become whole numbers again."""
    if isinstance(tree, dict):
        if _TENSOR_KEY in tree:
            return tensors[tree[_TENSOR_KEY]]
        return {int(key) if key.isdecimal() else key: _put_tensors(value, tensors) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_put_tensors(value, tensors) for value in tree]
    return tree
