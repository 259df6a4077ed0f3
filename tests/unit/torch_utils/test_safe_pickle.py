import contextlib
import io
import pickle
import re
import struct
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from dnnlib.util import EasyDict
from tests.malicious_pickles import (
    LIVE_CALLS,
    MARK,
    REDUCE,
    STOP,
    TUPLE1,
    all_malicious_pickles,
    array,
    call,
    name,
    put,
    put_bytes,
    storage,
    tensor,
)
from torch_utils.safe_pickle import PersistentObject, PickledArray, RefusedPickleError, TFNetwork, load

ATTACKS = sorted(all_malicious_pickles(Path("canary")))
PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)


def loads(data: bytes):
    return load(io.BytesIO(data))


@pytest.mark.parametrize("attack", ATTACKS)
def test_malicious_pickles_are_refused(attack, tmp_path):
    canary = tmp_path / "canary"
    with pytest.raises(UserError) as caught:
        loads(all_malicious_pickles(canary)[attack])
    assert not canary.exists()
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 300


def test_there_are_many_attacks():
    assert len(ATTACKS) > 100


@pytest.mark.parametrize("attack", LIVE_CALLS)
def test_attacks_are_real(attack, tmp_path):
    canary = tmp_path / "canary"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a file that is opened and dropped
        pickle.loads(all_malicious_pickles(canary)[attack])
    assert canary.exists()


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        ("os.system", "global 'os.system' is not allowed"),
        ("dotted name", "global 'torch_utils.persistence.sys.modules' is not allowed"),
        ("INST", "opcode INST is not allowed"),
        ("EXT1", "opcode EXT1 is not allowed"),
        ("BUILD of a function", "a Record operation on a function"),
        ("BUILD of a class", "a Record operation on a type"),
        ("SETITEM of a class", "a dict operation on a function"),
        ("REDUCE of a marker", "something that is not a function"),
        ("key of nested tuples", "a key of type tuple"),
        ("large text", "a string of 8388608 characters"),
        ("large integer", "an integer of 8185 bits"),
        ("endless bytes", "truncated"),
        ("tensor beyond its storage", "beyond its storage"),
        ("tensor of huge stride", "beyond its storage"),
        ("storage larger than its bytes", "a storage of another size"),
        ("storage with a call in its keys", "global 'posix.system' is not allowed"),
        ("array larger than its bytes", "an array of another size"),
        ("array of objects", "not a numeric dtype"),
    ],
)
def test_refusals_give_the_reason(attack, reason, tmp_path):
    with pytest.raises(UserError, match=re.escape(reason)):
        loads(all_malicious_pickles(tmp_path)[attack])


def test_what_is_not_allowed_can_be_told_from_what_is_broken(tmp_path):
    attacks = all_malicious_pickles(tmp_path)
    with pytest.raises(RefusedPickleError):
        loads(attacks["os.system"])
    with pytest.raises(UserError) as caught:
        loads(attacks["endless bytes"])
    assert type(caught.value) is UserError


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_data_is_read(protocol):
    shared = ["a", 1, -(2**40), 0.5, True, None, b"bytes", "text" * 100, (), (1,), (1, 2, 3, 4)]
    data = {"list": shared, "again": shared, "dict": EasyDict(x=EasyDict()), "set": {"a", "b"}, "empty": set()}
    read = loads(pickle.dumps(data, protocol=protocol))
    assert read == data
    assert read["list"] is read["again"]
    assert type(read["dict"]) is type(read["dict"].x) is EasyDict


def test_ordered_dicts_become_dicts():
    assert loads(pickle.dumps(OrderedDict(b=1, a=2))) == {"b": 1, "a": 2}


def test_cyclic_data_is_read():
    cyclic = []
    cyclic.append((cyclic,))
    read = loads(pickle.dumps(cyclic))
    assert read[0][0] is read


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool]
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tensors_are_read(dtype, protocol):
    whole = (torch.rand([4, 5, 6]) * 3).to(dtype)
    tensors = {"whole": whole, "view": whole[1:, ::2].transpose(0, 1), "scalar": whole[0, 0, 0], "empty": whole[:0]}
    read = loads(pickle.dumps(tensors, protocol=protocol))
    for key, value in tensors.items():
        assert read[key].dtype == dtype
        assert torch.equal(read[key], value)


def test_parameters_are_read_without_gradient():
    parameter = torch.nn.Parameter(torch.rand([2, 3]))
    read = loads(pickle.dumps(parameter))
    assert torch.equal(read, parameter)
    assert not read.requires_grad


def test_the_benign_forms_of_the_attacks_are_read():
    assert loads(tensor(storage(), 0, (1, 1), (1, 1)) + STOP).tolist() == [[0.0]]
    assert loads(array("i4", (1,), b"\0\0\0\1", byte_order=">") + STOP).values.tolist() == [1]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4", "uint8", "int64", "bool"])
def test_arrays_are_read(dtype, protocol):
    values = np.arange(6).reshape(2, 3).astype(dtype)
    read = loads(pickle.dumps([values, values.T, values[1, 1], values[:0]], protocol=protocol))
    for result, expected in zip(read, [values, values.T, values[1, 1], values[:0]], strict=True):
        result = result.values if isinstance(result, PickledArray) else result
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_arrays_of_protocol_5_are_read(core):
    values = np.arange(24, dtype=">i2").reshape(2, 3, 4)
    read_only = np.frombuffer(values.tobytes(), values.dtype).reshape(2, 3, 4)
    arrays = [values, values.T, values.transpose(1, 0, 2), values[:, 1], values[:0], read_only, values[0, 0, 0]]
    data = pickle.dumps(arrays, protocol=5).replace(b"numpy._core.numeric", f"{core}.numeric".encode())
    if core == "numpy.core":  # its length stands before it, and so does that of the frame
        data = data.replace(b"\x8c\x13numpy.core", b"\x8c\x12numpy.core")
    for result, expected in zip(loads(data), arrays, strict=True):
        result = result.values if isinstance(result, PickledArray) else result
        np.testing.assert_array_equal(result, expected)


def frombuffer(data, code="u1", shape=(2,), order="C", *more) -> bytes:
    dtype = call(name("numpy", "dtype"), put(code))
    pushed = put_bytes(data) if isinstance(data, bytes) else put(data)
    return (
        call(name("numpy._core.numeric", "_frombuffer"), pushed, dtype, put(shape), put(order), *map(put, more)) + STOP
    )


def test_buffers_must_be_arrays():
    assert loads(frombuffer(b"ab")).values.tolist() == [97, 98]
    assert loads(frombuffer(b"abcd", "u1", (2, 2), "K", (1, 0))).values.tolist() == [[97, 99], [98, 100]]
    for arguments in (
        (b"abc",),
        (b"a",),
        ("ab",),
        ([1, 2],),
        (b"ab", "O8"),
        (b"ab", "u1", (1 << 62, 4)),
        (b"ab", "u1", (-2,)),
        (b"ab", "u1", [2]),
        (b"ab", "u1", (1,) * 100),
        (b"ab", "u1", (2,), "X"),
        (b"ab", "u1", (2,), "K", (1,)),
        (b"ab", "u1", (2, 1), "K", (0, 0)),
        (b"ab", "u1", (2,), "K", (0,), 1),
    ):
        with pytest.raises(UserError):
            loads(frombuffer(*arguments))


def test_arrays_are_filled_once():
    again = array("u1", (2,), b"ab") + MARK + put(1) + put((1,)) + call(name("numpy", "dtype"), put("u1"))
    with pytest.raises(UserError, match="an array that is filled twice"):
        loads(again + b"\x89" + put_bytes(b"c") + b"tb.")


def reference(kind="storage", dtype=None, num_elements=1, view=None, more=b""):
    """The part of a storage that tells its layout."""
    dtype = name("torch", "ByteStorage") if dtype is None else dtype
    return MARK + put(kind) + dtype + put("0") + put("cpu") + put(num_elements) + put(view) + more + b"tQ"


@pytest.mark.parametrize(
    "changes",
    [
        *({"num_elements": number} for number in ("x", [1], True, 1.0, -1)),
        *({"kind": "module"}, {"dtype": put("torch.uint8")}, {"view": ("0", 0, 1)}, {"more": put(0)}),
    ],
)
def test_storages_of_other_layouts_are_refused(changes):
    assert loads(tensor(storage(reference(), put(["0"]), data=b"\7"), 0, (1,), (1,)) + STOP).tolist() == [7]
    with pytest.raises(UserError, match="a storage of unknown layout"):
        loads(storage(reference(**changes), put(["0"]), data=b"\0") + STOP)


HEADER = (put(0x1950A86A20F9469CFC6C), put(1001), put({"little_endian": True}), reference(), put(["0"]))


@pytest.mark.parametrize(
    ("position", "part", "reason"),
    [
        (0, put(1), "an unknown storage format"),
        (1, put(1002), "an unknown storage format"),
        (2, put([]), "an unknown storage format"),
        (2, put({}), "a storage of another byte order"),
        (2, put({"little_endian": False}), "a storage of another byte order"),
        (3, put(("storage", "uint8", "0", "cpu", 1, None)), "a storage without reference"),
        (3, put("storage") + b"Q", "a storage without reference"),
    ],
    ids=["magic", "protocol", "system", "no byte order", "byte order", "reference", "reference of text"],
)
def test_headers_of_other_storages_are_refused(position, part, reason):
    header = [*HEADER[:position], part, *HEADER[position + 1 :]]
    with pytest.raises(UserError, match=reason):
        loads(storage(*header, data=b"\0") + STOP)


def test_arrays_without_data_are_errors():
    made = call(name("numpy._core.multiarray", "_reconstruct"), name("numpy", "ndarray"), put((0,)), put_bytes(b"b"))
    with pytest.raises(UserError, match="an array without data"):
        _ = loads(made + STOP).values


def python_2_string(text: bytes) -> bytes:
    return b"T" + struct.pack("<I", len(text)) + text


def test_pickles_of_python_2_are_read():
    dtype = call(name("numpy", "dtype"), b"U\x02u1", put(0), put(1))
    dtype += MARK + put(3) + b"U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    made = call(name("numpy.core.multiarray", "_reconstruct"), name("numpy", "ndarray"), put((0,)), b"U\x01b")
    for num_bytes in (300, (1 << 22) + 1):  # as text, and as more text than is allowed elsewhere
        data = bytes(range(256)) * (num_bytes // 256 + 1)
        values = made + MARK + put(1) + put((num_bytes,)) + dtype + b"\x89" + python_2_string(data[:num_bytes]) + b"tb"
        read = loads(b"\x80\x02}(U\x04data" + values + b"U\x06labels]q\x01(K\x06K\x07e" + b"u.")
        assert read["labels"] == [6, 7]
        assert read["data"].values.tobytes() == data[:num_bytes]


def test_keys_of_bytes_become_text():
    assert loads(pickle.dumps({b"data": b"data", "labels": 1})) == {"data": b"data", "labels": 1}


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_bytes_of_old_protocols_are_read(protocol):
    data = [b"", b"abc", bytes(range(256)), {b"\xff": True}, {"a", "b"}]
    assert loads(pickle.dumps(data, protocol)) == [*data[:3], {"\xff": True}, {"a", "b"}]


def test_long_text_is_good_for_bytes_only():
    data = bytes(5_000_000)
    assert loads(pickle.dumps(data, 2)) == data
    with pytest.raises(RefusedPickleError, match="a string of 5000000 characters"):
        loads(pickle.dumps(data.decode(), 2))


@pytest.mark.parametrize("encoding", ["rot13", "utf-8", "hex", 1])
def test_text_is_encoded_as_latin1_only(encoding):
    with pytest.raises(RefusedPickleError, match="text encoding"):
        loads(call(name("_codecs", "encode"), put("x"), put(encoding)) + STOP)
    with pytest.raises(UserError, match="malformed"):
        loads(call(name("_codecs", "encode"), put("\u20ac"), put("latin1")) + STOP)


def meta(**changes):
    return {"type": "class", "version": 6, "module_src": "x", "class_name": "Generator", "state": {"a": 1}} | changes


def persistent(value) -> bytes:
    return call(name("torch_utils.persistence", "_reconstruct_persistent_obj"), put(value)) + STOP


def test_persistent_objects_become_records(tmp_path):
    read = loads(persistent(meta(module_src=f"open({str(tmp_path / 'canary')!r}, 'w')")))
    assert isinstance(read, PersistentObject)
    assert (read.class_name, read.state) == ("Generator", {"a": 1})
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("changes", [{"type": "x"}, {"version": 7}, {"version": "6"}, {"class_name": 1}, {"state": []}])
def test_strange_persistent_objects_are_errors(changes):
    with pytest.raises(UserError):
        loads(persistent(meta(**changes)))
    with pytest.raises(UserError):
        loads(persistent(None))


def test_unknown_versions_are_named():
    with pytest.raises(UserError, match="version 7"):
        loads(persistent(meta(version=7)))


def tf_network(state) -> bytes:
    return name("dnnlib.tflib.network", "Network") + b")\x81" + state + b"b"


def test_tf_networks_become_records():
    values = put([]) + put("Conv/weight") + array("f4", (1,), bytes(4)) + b"\x86a"
    part = tf_network(put({"static_kwargs": {}, "components": {}}) + put("variables") + values + b"s")
    whole = put({"static_kwargs": {"resolution": 8}, "variables": [("lod", 0.0)]})
    whole += put("components") + put({}) + put("synthesis") + part + b"ss"
    read = loads(tf_network(whole) + STOP)
    assert isinstance(read, TFNetwork)
    assert read.static_kwargs == {"resolution": 8}
    assert {key: value.tolist() for key, value in read.variables().items()} == {
        "lod": 0.0,
        "synthesis/Conv/weight": [0.0],
    }


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"static_kwargs": [], "variables": [], "components": {}},
        {"static_kwargs": {}, "variables": [("a", "text")], "components": {}},
        {"static_kwargs": {}, "variables": ["abc"], "components": {}},
        {"static_kwargs": {}, "variables": [], "components": {"a": 1}},
    ],
)
def test_strange_tf_networks_are_errors(state):
    with pytest.raises(UserError):
        loads(tf_network(put(state)) + STOP).variables()


def test_components_of_tf_networks_are_few_and_have_short_names():
    state = {"static_kwargs": {}, "variables": [("a", 1)], "components": {}}
    part, whole = TFNetwork(), TFNetwork()
    part.set_state(state)
    with pytest.raises(UserError):
        whole.set_state({**state, "components": dict.fromkeys("abcdefghi", part)})
    whole.set_state({**state, "components": {"x" * 1000: part}})
    with pytest.raises(UserError):
        whole.variables()


def test_repeating_oneself_does_not_make_more_of_a_file():
    elements = 10_000
    once = storage(num_elements=elements, data=bytes(4 * elements))
    function, arguments = name("torch.storage", "_load_from_bytes"), once[once.index(b"(") + 1 : -2]
    repeated = MARK + function + b"q\x00" + arguments + TUPLE1 + b"q\x01" + REDUCE + b"h\x00h\x01R" * 100 + b"l"
    with pytest.raises(RefusedPickleError, match="more data than it holds"):
        loads(repeated + STOP)


def test_large_sets_by_call_are_errors():
    assert loads(call(name("builtins", "set"), put(["a", "b"])) + STOP) == {"a", "b"}
    for items in (["a"] * 100, "ab", [1]):
        with pytest.raises(UserError):
            loads(call(name("builtins", "set"), put(items)) + STOP)


def test_every_truncation_is_one_clear_line():
    data = pickle.dumps({"a": torch.rand([3]), "b": [np.arange(3), EasyDict(c="x" * 300)]})
    for length in range(len(data)):
        with pytest.raises(UserError, match=r"truncated|malformed"):
            loads(data[:length])


def test_damage_never_escapes_as_another_error():
    data = pickle.dumps({"a": torch.rand([3]), "b": [np.arange(3), EasyDict(c="x" * 30)]})
    for position in range(len(data)):
        for flipped in (1, 16, 128):
            damaged = bytearray(data)
            damaged[position] ^= flipped
            with contextlib.suppress(UserError):
                loads(bytes(damaged))


def test_unseekable_files_are_read():
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *args):
            raise io.UnsupportedOperation

    assert load(Pipe(pickle.dumps([1]))) == [1]
