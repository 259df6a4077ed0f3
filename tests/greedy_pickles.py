"""Pickles of up to a few megabytes that would make a careless reader hang or take gigabytes."""

from __future__ import annotations

import functools
import struct

from tests.malicious_pickles import (
    BUILD,
    MARK,
    REDUCE,
    STOP,
    TUPLE1,
    TUPLE2,
    array,
    call,
    name,
    put,
    put_bytes,
    storage,
    tensor,
)

BASE_BYTES = 20 << 20
MEMORY_PER_FILE_BYTE = 10
"""What reading any of them may take: a base, and a multiple of the size of the file."""

NUM = 100_000
"""Repetitions that make a file of about half a megabyte."""

PERSISTENT = name("torch_utils.persistence", "_reconstruct_persistent_obj")


def text(num_chars: int, character: str = "x") -> bytes:
    encoded = (character * num_chars).encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


FIRST_MEMO = 240
"""`put` uses the memo too, from 0."""


def remember(value: bytes, index: int) -> bytes:
    return value + b"r" + struct.pack("<I", FIRST_MEMO + index)


def recall(index: int) -> bytes:
    return b"h" + bytes([FIRST_MEMO + index])


def laughs(levels: int = 100) -> bytes:
    """A list of two lists of two lists ...: small in memory, endless for code that walks it as a tree."""
    return b"]" + (remember(b"", 9) + b"0]" + (recall(9) + b"a") * 2) * levels


def repeated(function: bytes, arguments: bytes, num: int = NUM) -> bytes:
    """A list of the results of one call with the same arguments."""
    start = remember(function, 0) + b"0" + remember(arguments, 1) + b"0"
    return start + MARK + (recall(0) + recall(1) + REDUCE) * num + b"l"


def persistent(meta: bytes) -> bytes:
    return PERSISTENT + meta + TUPLE1 + REDUCE


def meta(state: bytes, **changes: bytes) -> bytes:
    items = {"type": put("class"), "version": put(6), "module_src": put("x"), "class_name": put("Generator")}
    items = {**items, "state": state, **changes}
    return b"}" + MARK + b"".join(put(key) + value for key, value in items.items()) + b"u"


def wide_dict(num: int) -> bytes:
    return b"}" + MARK + b"".join(put(str(index)) + b"N" for index in range(num)) + b"u"


def snapshot(**parts: bytes) -> bytes:
    return b"}" + MARK + b"".join(put(key) + value for key, value in parts.items()) + b"u"


def network(settings: bytes = b"}", tensors: bytes = b"}", children: bytes = b"}") -> bytes:
    state = snapshot(_init_args=b")", _init_kwargs=settings, _parameters=tensors, _buffers=b"}", _modules=children)
    return persistent(meta(state))


def tf_networks(variables: bytes, settings: bytes = b"}") -> bytes:
    state = snapshot(static_kwargs=settings, variables=variables, components=b"}")
    one = name("dnnlib.tflib.network", "Network") + b")\x81" + state + BUILD
    return MARK + remember(one, 8) + recall(8) * 2 + b"t"


def containers() -> dict[str, bytes]:
    """As many objects per byte as a pickle can make."""
    tensor_arguments = MARK + storage() + put(0) + put((1,)) + put((1,)) + b"\x89Nt"
    array_arguments = MARK + name("numpy", "ndarray") + put((0,)) + put_bytes(b"b") + b"t"
    return {
        "lists": MARK + b"]" * NUM + b"l",
        "dicts": MARK + b"}" * NUM + b"l",
        "sets": b"\x80\x04" + MARK + b"\x8f" * NUM + b"l",
        "marks": MARK * NUM,
        "memos": b"\x80\x04N" + b"\x94" * NUM,
        "memos by number": b"N" + b"".join(b"r" + struct.pack("<I", index) for index in range(NUM)),
        "numbers": MARK + b"J\x00\x10\x00\x00" * NUM + b"l",
        "many numbers": MARK + b"J\x00\x10\x00\x00" * 1_100_000 + b"l",
        "entries": wide_dict(NUM),
        "globals": MARK + b"cx\nx\n" * NUM + b"l",
        "easy dicts": repeated(name("dnnlib.util", "EasyDict"), b")"),
        "dtypes": repeated(name("numpy", "dtype"), put("f4") + TUPLE1),
        "TensorFlow networks": repeated(name("dnnlib.tflib.network", "Network"), b")"),
        "tensors": repeated(name("torch._utils", "_rebuild_tensor_v2"), tensor_arguments),
        "arrays": repeated(name("numpy._core.multiarray", "_reconstruct"), array_arguments),
        "persistent objects": repeated(PERSISTENT, meta(wide_dict(10_000)) + TUPLE1, 50_000),
        "persistent objects of wide descriptions": repeated(PERSISTENT, wide_dict(50_000) + TUPLE1, 50_000),
    }


def copies() -> dict[str, bytes]:
    """Data that the file holds once and asks for again and again."""
    million = text(1_000_000)
    one_tensor = tensor(storage(), 0, (1,), (1,))
    header = storage(put_bytes(b"x" * 500_000))
    opcodes = storage(b"N" + b"0N" * 20_000)
    load = name("torch.storage", "_load_from_bytes")
    dtype = call(name("numpy", "dtype"), put("u1"))
    state = MARK + put(1) + put((1_000_000,)) + dtype + b"\x89" + million + b"t"
    made = call(name("numpy._core.multiarray", "_reconstruct"), name("numpy", "ndarray"), put((0,)), put_bytes(b"b"))
    key, value = remember(put_bytes(b"x" * 1_000_000), 0) + b"0", recall(0) + b"Ns"
    padded_key = put_bytes(bytes(5_000_000)) + b"0" + remember(put_bytes(b"x" * 4096), 0) + b"0"
    twins = remember(million, 0) + b"0" + remember(million, 1) + b"0}"
    return {
        "bytes encoded again": repeated(name("_codecs", "encode"), million + put("latin1") + TUPLE2),
        "storages with long headers": repeated(load, header[header.index(b"(") + 1 : -2] + TUPLE1, 50_000),
        "storages with many opcodes": repeated(load, opcodes[opcodes.index(b"(") + 1 : -2] + TUPLE1, 50_000),
        "an array filled again": made + remember(state, 0) + BUILD + (recall(0) + BUILD) * 50_000,
        "arrays of one text": remember(state, 0) + b"0" + MARK + (made + recall(0) + BUILD) * 2_000 + b"l",
        "keys of bytes": key + b"}" + value * NUM,
        "keys of bytes in many dicts": padded_key + MARK + (b"}" + value) * NUM + b"l",
        "equal keys": twins + (recall(0) + b"Ns" + recall(1) + b"Ns") * NUM,
        "arguments of text": repeated(name("collections", "OrderedDict"), million),
        "many arguments": repeated(name("torch._utils", "_rebuild_parameter"), MARK + one_tensor + b"N" * NUM + b"t"),
        "global with long names": b"\x80\x04"
        + remember(million, 0)
        + b"0"
        + MARK
        + (recall(0) * 2 + b"\x93") * NUM
        + b"l",
        "wide text": text(1_000_000) + text(1_000_000, "\U0001f600") + b"0",
    }


def trees() -> dict[str, bytes]:
    """Shared containers in places where code might print them or walk them as trees."""
    million = text(1_000_000)
    long_list = MARK + b"N" * NUM + b"l"
    settings = b"}" + put("architecture") + laughs() + b"s"
    array_1 = remember(array("u1", (1_000_000,), bytes(1_000_000)), 3) + b"0"
    variables = MARK + b"".join(put(f"4x4/Conv{index}/weight") + recall(3) + TUPLE2 for index in range(900)) + b"l"
    wide_texts = remember(million, 0) + b"0" + b"}" + put("path") + MARK + recall(0) * 900 + b"ls"
    return {
        "name of a global": b"\x80\x04" + laughs() + put("x") + b"\x93",
        "attribute of a global": b"\x80\x04" + put("x") + laughs() + b"\x93",
        "result": laughs(),
        "type of an object": persistent(meta(b"}", type=laughs())),
        "version of an object": persistent(meta(b"}", version=laughs())),
        "class of an object": persistent(meta(b"}", class_name=laughs())),
        "size of a storage": storage(
            MARK + put("storage") + name("torch", "FloatStorage") + b"NN" + long_list + b"NtQ", put(["0"])
        ),
        "text encoding": call(name("_codecs", "encode"), put("x"), laughs()),
        "code of a dtype": call(name("numpy", "dtype"), laughs()),
        "settings of a network": snapshot(G=network(settings), D=network(settings), G_ema=network(settings)),
        "settings of a dataset": snapshot(training_set_kwargs=settings),
        "long texts in settings": snapshot(training_set_kwargs=wide_texts),
        "settings of TensorFlow": tf_networks(b"]", settings),
        "one array for all variables": array_1 + tf_networks(variables),
        "many parts": wide_dict(20_000),
        "part of a snapshot": snapshot(G=laughs(), G_ema=laughs()),
        "long names of parts": b"}" + b"".join(text(4000) + b"Ns" for _ in range(200)),
    }


@functools.cache
def all_greedy_pickles() -> dict[str, bytes]:
    """Every file by name."""
    return {key: data + STOP for group in (containers(), copies(), trees()) for key, data in group.items()}
