import builtins
import errno
import hashlib
import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from dnnlib.file_content import sha256_of
from training import checkpoint
from training.checkpoint import (
    CheckpointError,
    find_newest_checkpoint,
    load_checkpoint,
    remove_leftovers,
    save_checkpoint,
)
from training.checkpoint_names import list_checkpoints


def tree(value=0.0):
    return {"weights": {"w": torch.full([16, 4], value)}, "counters": {"cur_nimg": 3}}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def state_name(nimg):
    return f"training-state-{nimg:09d}.safetensors"


def test_tensors_come_back_as_they_were(tmp_path):
    dtypes = (torch.float32, torch.float16, torch.float64, torch.int64, torch.uint8, torch.bool)
    tensors = {str(dtype): torch.arange(6).reshape(2, 3).to(dtype) for dtype in dtypes}
    tensors["scalar"] = torch.tensor(0.1)
    tensors["empty"] = torch.zeros([3, 0])
    tensors["not finite"] = torch.tensor([float("nan"), float("inf"), -0.0])
    tensors["transposed"] = torch.arange(6.0).reshape(2, 3).t()
    loaded = load_checkpoint(save_checkpoint(tmp_path, 0, tensors))
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (loaded[name].dtype, loaded[name].shape) == (tensor.dtype, tensor.shape)
        assert np.array_equal(loaded[name].numpy(), tensor.numpy(), equal_nan=tensor.is_floating_point())


def test_plain_values_come_back_exactly(tmp_path):
    values = {
        "float": 0.1 + 0.2,
        "tiny": 5e-324,
        "infinite": float("inf"),
        "integer": 2**70,
        "none": None,
        "flags": [True, False],
        "text": "x/y",
        "nested": {"empty": {}, "list": [[], [1, [2.5]]]},
    }
    assert load_checkpoint(save_checkpoint(tmp_path, 0, values)) == values
    assert np.isnan(load_checkpoint(save_checkpoint(tmp_path, 1, {"nan": float("nan")}))["nan"])


def test_one_tensor_in_two_places(tmp_path):
    shared = torch.arange(4.0)
    loaded = load_checkpoint(save_checkpoint(tmp_path, 0, {"a": shared, "b": [shared, shared[:2]]}))
    assert torch.equal(loaded["a"], shared)
    assert torch.equal(loaded["b"][1], shared[:2])


def test_saving_leaves_the_tree_alone(tmp_path):
    original = tree(1.5)
    save_checkpoint(tmp_path, 0, original)
    assert original["weights"]["w"].eq(1.5).all()
    assert original["counters"] == {"cur_nimg": 3}


def test_the_last_two_are_kept_with_their_checksums(tmp_path):
    for nimg in (8, 1000, 99, 1_000_000_000):
        save_checkpoint(tmp_path, nimg, tree())
    kept = (1000, 1_000_000_000)
    assert list_checkpoints(tmp_path) == [tmp_path / state_name(nimg) for nimg in kept]
    assert names(tmp_path) == sorted(
        f"training-state-{nimg:09d}.{end}" for nimg in kept for end in ("safetensors", "sha256")
    )
    for path in list_checkpoints(tmp_path):
        assert path.with_suffix(".sha256").read_text() == hashlib.sha256(path.read_bytes()).hexdigest() + "\n"


def test_nothing_to_find_in_a_new_folder(tmp_path):
    (tmp_path / "training-state-1.safetensors.damaged").touch()
    assert find_newest_checkpoint(tmp_path) == (None, [])


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    for name in (f".{state_name(4)}.0123abcd.tmp", ".stats.tmp", ".tmpJ8ufrf", "stats.jsonl", ".hidden"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [".hidden", "stats.jsonl"]


def test_everything_that_saving_leaves_when_it_is_killed_is_a_leftover(tmp_path):
    """Watched from another thread, as the library of safetensors chooses names of its own."""
    seen, is_saved = set(), threading.Event()

    def watch():
        while not is_saved.is_set():
            seen.update(names(tmp_path))

    thread = threading.Thread(target=watch)
    thread.start()
    save_checkpoint(tmp_path, 4, {"w": torch.zeros(10_000_000)})
    is_saved.set()
    thread.join()
    temporary = seen - set(names(tmp_path))
    assert temporary
    for name in temporary:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert set(names(tmp_path)) == {state_name(4), state_name(4).replace("safetensors", "sha256")}


@pytest.fixture
def two_states(tmp_path):
    save_checkpoint(tmp_path, 4, tree(4.0))
    save_checkpoint(tmp_path, 8, tree(8.0))
    return tmp_path


def assert_falls_back(folder, newest):
    """The state before the newest is used, the newest set aside with one line that says so."""
    path, warnings = find_newest_checkpoint(folder)
    assert path == folder / state_name(4)
    assert load_checkpoint(path)["weights"]["w"].eq(4).all()
    assert len(warnings) == 1
    assert re.fullmatch(
        rf".*{newest.name}.*; renamed to {newest.name}\.damaged, trying the checkpoint before it", warnings[0]
    )
    assert newest.with_name(newest.name + ".damaged").exists()
    assert not newest.exists()


def test_an_intact_state_is_found(two_states):
    assert find_newest_checkpoint(two_states) == (two_states / state_name(8), [])


@pytest.mark.parametrize(("number", "is_damage"), [(errno.EIO, True), (errno.ESTALE, False)])
def test_a_drive_that_is_gone_is_no_damage(two_states, monkeypatch, number, is_damage):
    newest = two_states / state_name(8)

    def read(path):
        if path == newest:
            raise OSError(number, os.strerror(number), str(path))
        return sha256_of(path)

    monkeypatch.setattr(checkpoint, "sha256_of", read)
    if is_damage:
        assert_falls_back(two_states, newest)
        return
    with pytest.raises(OSError, match="Stale file handle"):
        find_newest_checkpoint(two_states)
    assert newest.exists()


def test_every_truncation_is_detected(two_states):
    newest = two_states / state_name(8)
    content = newest.read_bytes()
    for length in np.linspace(0, len(content) - 1, 20).astype(int):
        newest.write_bytes(content[:length])
        assert_falls_back(two_states, newest)


def test_every_flipped_bit_is_detected(two_states):
    """In the length of the header, the header and the tensors: the first 16 bytes, and 100 places all over."""
    newest = two_states / state_name(8)
    content = newest.read_bytes()
    places = [*range(16), *np.linspace(16, len(content) - 1, 100).astype(int)]
    for i, place in enumerate(places):
        flipped = bytearray(content)
        flipped[place] ^= 1 << (i % 8)
        newest.write_bytes(flipped)
        assert_falls_back(two_states, newest)


def test_every_flipped_bit_of_the_checksum_is_detected(two_states):
    newest = two_states / state_name(8)
    content, checksum = newest.read_bytes(), newest.with_suffix(".sha256").read_bytes()
    for place in range(64):
        flipped = bytearray(checksum)
        flipped[place] ^= 1 << (place % 8)
        newest.write_bytes(content)
        newest.with_suffix(".sha256").write_bytes(flipped)
        assert_falls_back(two_states, newest)


def test_a_checksum_may_be_made_by_sha256sum(two_states):
    newest = two_states / state_name(8)
    newest.with_suffix(".sha256").write_text(f"{sha256_of(newest)}  {newest.name}\n")
    assert checkpoint.find_newest_checkpoint(two_states) == (newest, [])


@pytest.mark.parametrize("checksum", [None, b"", b"0" * 64, b"\xff\xfe"])
def test_a_state_without_its_checksum_does_not_count(two_states, checksum):
    newest = two_states / state_name(8)
    newest.with_suffix(".sha256").unlink()
    if checksum is not None:
        newest.with_suffix(".sha256").write_bytes(checksum)
    assert_falls_back(two_states, newest)


def test_no_intact_state_is_an_error(two_states):
    for path in list_checkpoints(two_states):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=f"no intact checkpoint is left.*{state_name(8)}.*{state_name(4)}"):
        find_newest_checkpoint(two_states)


@pytest.mark.parametrize(
    "failure", [SafetensorError("Error while serializing: No space left"), OSError(28, "No space")]
)
def test_a_full_disk_keeps_what_there_is(two_states, monkeypatch, failure):
    def save_half(_tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise failure

    before = names(two_states)
    monkeypatch.setattr(checkpoint, "save_file", save_half)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(two_states, 12, tree())
    assert names(two_states) == before


class Crash(BaseException):
    """Stands for the end of the process: nothing after it runs but what a killed process would not run either."""


def crash_at(monkeypatch, count):
    """Let the n-th change of the disk from now on not happen, nor any after it."""
    calls = iter(range(10**6))

    def guarded(original):
        def call(*args, **kwargs):
            if next(calls) >= count:
                raise Crash
            return original(*args, **kwargs)

        return call

    monkeypatch.setattr(checkpoint, "save_file", guarded(checkpoint.save_file))
    monkeypatch.setattr(os, "fsync", guarded(os.fsync))
    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, guarded(getattr(Path, name)))
    monkeypatch.setattr(builtins, "open", guarded(open))


def test_a_crash_at_any_step_leaves_an_intact_state(tmp_path, monkeypatch):
    num_crashes = 0
    while True:
        folder = tmp_path / str(num_crashes)
        folder.mkdir()
        save_checkpoint(folder, 4, tree(4.0))
        save_checkpoint(folder, 8, tree(8.0))
        with monkeypatch.context() as patch:
            crash_at(patch, num_crashes)
            try:
                save_checkpoint(folder, 12, tree(12.0))
                break
            except Crash:
                num_crashes += 1
        remove_leftovers(folder)
        path, warnings = find_newest_checkpoint(folder)
        assert path.name in (state_name(8), state_name(12))
        assert load_checkpoint(path)["weights"]["w"].eq(int(path.stem[-2:])).all()
        assert not warnings
    assert num_crashes > 8


def test_content_reaches_the_disk_before_its_name_and_the_checksum_before_the_state(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, Path.replace

    def watch_fsync(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        events.append("sync folder" if path.is_dir() else f"sync {path.suffix}")
        fsync(descriptor)

    def watch_replace(self, target):
        events.append(f"rename {target.suffix}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", watch_fsync)
    monkeypatch.setattr(Path, "replace", watch_replace)
    save_checkpoint(tmp_path, 4, tree())
    assert events == [
        *("sync .tmp", "rename .sha256", "sync folder"),
        *("sync .tmp", "rename .safetensors", "sync folder"),
    ]


class Part:
    """Has a number, and may refuse another."""

    def __init__(self, number=0, error=None):
        self.number, self.error = number, error

    def state_dict(self):
        return {"number": self.number}

    def load_state_dict(self, state):
        if self.error is not None:
            raise self.error
        self.number = state["number"]


def test_names_nest_the_tree_and_processes_have_their_own_states():
    parts = {"a": Part(1), "group/b": Part(2), "ranks/c": Part(3)}
    tree = checkpoint.collect(parts)
    assert tree == {
        "num_gpus": 1,
        "a": {"number": 1},
        "group": {"b": {"number": 2}},
        "ranks": [{"c": {"number": 3}}],
    }
    restored = {name: Part() for name in parts}
    checkpoint.restore(restored, tree)
    assert [part.number for part in restored.values()] == [1, 2, 3]


@pytest.mark.parametrize("rank", [0, 1])
def test_each_process_restores_its_own_state(monkeypatch, rank):
    monkeypatch.setattr(checkpoint.distributed, "world_size", lambda: 2)
    monkeypatch.setattr(checkpoint.distributed, "rank", lambda: rank)
    part = Part()
    checkpoint.restore({"ranks/c": part}, {"num_gpus": 2, "ranks": [{"c": {"number": 5}}, {"c": {"number": 6}}]})
    assert part.number == 5 + rank
    with pytest.raises(CheckpointError, match=r"^was written with --gpus=1; continue with as many processes$"):
        checkpoint.restore({"ranks/c": part}, {"num_gpus": 1, "ranks": [{"c": {"number": 5}}]})


@pytest.mark.parametrize(
    "changes",
    [{"num_gpus": None}, {"num_gpus": True}, {"num_gpus": "1"}, {"ranks": {}}, {"ranks": []}, {"ranks": [{}, {}]}],
)
def test_states_of_processes_that_are_missing(changes):
    with pytest.raises(CheckpointError, match=r"^is damaged: it lacks the states of its processes$"):
        checkpoint.restore({}, {"num_gpus": 1, "ranks": [{}], **changes})


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (Part(error=RuntimeError("first\n\n  second\nthird")), "first second"),
        (Part(error=ValueError("\x1b[2J" + "x" * 1000)), r"\\x1b\[2Jx{296}"),
        (None, "'absent'"),
    ],
)
def test_what_does_not_fit_is_named_in_one_short_line(part, said):
    name = "group/absent" if part is None else "group/b"
    with pytest.raises(CheckpointError, match=f"^the saved {name} does not fit: {said}$"):
        checkpoint.restore({name: part or Part()}, {"num_gpus": 1, "ranks": [{}], "group": {"b": {"number": 1}}})


def write_metadata(path, metadata):
    save_file({"w": torch.zeros(1)}, path, metadata)
    return path


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {"tree": "{"}, {"tree": "[1]"}, {"tree": '{"a": {"__tensor__": "absent"}}'}, {"tree": "[" * 100_000}],
)
def test_a_file_that_is_no_checkpoint(tmp_path, metadata):
    path = write_metadata(tmp_path / "a.safetensors", metadata)
    with pytest.raises(CheckpointError, match=rf"^{re.escape(str(path))} does not hold a checkpoint \(\w+\)$"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("tree", "record"),
    [
        ('{"dataset": {"num_images": 3}}', {"num_images": 3}),
        ('{"dataset": [3]}', {}),
        ("{}", {}),
        ("[]", {}),
        ("{", {}),
    ],
)
def test_the_record_of_the_dataset_is_read_alone(tmp_path, tree, record):
    assert checkpoint.read_dataset_record(write_metadata(tmp_path / "a.safetensors", {"tree": tree})) == record
    assert checkpoint.read_dataset_record(tmp_path / "absent") == {}
