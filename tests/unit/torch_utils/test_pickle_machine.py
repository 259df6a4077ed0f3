"""The machine under its one user, `safe_pickle.load`: names that it does not know, and its limits."""

import contextlib
import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from dnnlib.errors import UserError
from tests.fuzzing import fuzz, num_rounds, refusal_allowed, run_bounded
from tests.greedy_pickles import BASE_BYTES, MEMORY_PER_FILE_BYTE, all_greedy_pickles
from tests.malicious_pickles import MARK, all_malicious_pickles, call, name, put
from torch_utils import pickle_machine
from torch_utils.safe_pickle import RefusedPickleError, Unknown, load


def load_bytes(data: bytes):
    return load(io.BytesIO(data))


@pytest.mark.slow
def test_unknown_objects_can_be_kept(tmp_path):
    for attack in all_malicious_pickles(tmp_path / "canary").values():
        with contextlib.suppress(UserError):
            load(io.BytesIO(attack), keep_unknown=True)
    assert not (tmp_path / "canary").exists()


def test_what_is_unknown_is_inert_and_what_is_beside_it_stays():
    attack = all_malicious_pickles(Path("canary"))["os.system"][:-1]
    filled = attack + put({"state": 1}) + b"b" + MARK + put(1) + b"e" + put("a") + put(1) + b"s"
    partly = call(name("torch._utils", "_rebuild_parameter"), attack)
    with_keywords = name("a", "B") + b")}\x92"
    read = load(io.BytesIO(MARK + put(1) + filled + partly + with_keywords + put({"a": 2}) + b"l."), keep_unknown=True)
    assert [read[0], read[4]] == [1, {"a": 2}]
    assert [(type(item), item.name) for item in read[1:4]] == [
        (Unknown, "os.system"),
        (Unknown, "os.system"),
        (Unknown, "a.B"),
    ]


def test_entries_with_other_keys_are_left_out_beside_unknown_objects():
    data = pickle.dumps({1: "a", (2,): "b", "c": {4, "d"}, "e": frozenset([None])})
    with pytest.raises(RefusedPickleError, match="a key of type"):
        load_bytes(data)
    assert load(io.BytesIO(data), keep_unknown=True) == {"c": {"d"}, "e": frozenset()}


def test_arrays_of_text_are_unknown_and_hold_no_data():
    read = load(io.BytesIO(pickle.dumps({"a": np.array(["x"]), "b": np.arange(2)})), keep_unknown=True)
    assert read["b"].values.tolist() == [0, 1]
    with pytest.raises(UserError, match="an array without data"):
        _ = read["a"].values


def test_what_is_unknown_among_the_arguments_is_passed_on():
    data = pickle.dumps([np.float32(1.5), {"a": np.datetime64("2020")}])
    read = load(io.BytesIO(data), keep_unknown=True)
    assert read[0] == 1.5
    assert isinstance(read[1]["a"], Unknown)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(all_greedy_pickles()))
def test_greedy_pickles_take_little_time_and_memory(name):
    data = all_greedy_pickles()[name]

    def read() -> None:
        for keep_unknown in (False, True):
            with refusal_allowed():
                load(io.BytesIO(data), keep_unknown)

    run_bounded(read, max_bytes=BASE_BYTES + MEMORY_PER_FILE_BYTE * len(data))


@pytest.mark.parametrize("arguments", [put(["x"]), put("x"), put(b"x"), put(None), put({}), put((None,) * 17)])
def test_arguments_are_a_short_tuple(arguments):
    with pytest.raises(RefusedPickleError, match="REDUCE with more than 16 arguments, or not a tuple of them"):
        load_bytes(name("torch._utils", "_rebuild_parameter") + arguments + b"R.")


def test_limits_grow_with_the_file():
    numbers = pickle.dumps(list(range(1000, 250_000)))
    with pytest.raises(RefusedPickleError, match="more memory than its size allows"):
        load_bytes(numbers)
    assert len(load_bytes(pickle.dumps([bytes(5_000_000), list(range(1000, 250_000))]))) == 2


def test_the_number_of_opcodes_is_limited(monkeypatch):
    data = pickle.dumps(list(range(100)))
    load_bytes(data)
    monkeypatch.setattr(pickle_machine, "MAX_OPCODES", 50)
    with pytest.raises(RefusedPickleError, match="more than 50 pickle opcodes"):
        load_bytes(data)


@pytest.mark.parametrize("keep_unknown", [False, True])
def test_fuzzed_plain_data(keep_unknown):
    values = {
        "a": [1, -(2**40), 0.5, None, True, "text", b"bytes"],
        "b": {"c": (1, 2)},
        "d": {"e", "f"},
        "g": np.arange(4),
    }
    valid = [pickle.dumps(values, protocol) for protocol in range(6)]
    assert fuzz(lambda data: load(io.BytesIO(data), keep_unknown), valid, num_rounds(500)) > 50
