"""Malicious pickles: most would touch a canary file when unpickled, some exhaust memory or the stack."""

from __future__ import annotations

import io
import marshal
import pickle
import struct
from pathlib import Path
from typing import Any

import torch

BUILD, MARK, REDUCE, STOP, TUPLE1, TUPLE2 = b"b", b"(", b"R", b".", b"\x85", b"\x86"


def put(value: Any) -> bytes:
    """Opcodes that push plain data."""
    return pickle.dumps(value, protocol=2)[2:-1]


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def stack_name(module: str, attribute: str) -> bytes:
    return b"\x80\x04" + put(module) + put(attribute) + b"\x93"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + MARK + b"".join(arguments) + b"t" + REDUCE


def named_calls(command: str, code: str, path: str) -> dict[str, bytes]:
    """Calls of functions by name. Those of `LIVE_CALLS` touch the canary when unpickled in the ordinary way."""
    system = name("posix", "system")
    calls: dict[str, tuple[str, str, tuple[Any, ...]]] = {
        "os.system": ("os", "system", (command,)),
        "posix.system": ("posix", "system", (command,)),
        "nt.system": ("nt", "system", (command,)),
        "os.popen": ("os", "popen", (command,)),
        "os.open": ("os", "open", (path, 0o101)),
        "builtins.eval": ("builtins", "eval", (f"exec({code!r})",)),
        "builtins.exec": ("builtins", "exec", (code,)),
        "builtins.open": ("builtins", "open", (path, "w")),
        "builtins.getattr": ("builtins", "getattr", ("", "format")),
        "builtins.__import__": ("builtins", "__import__", ("os",)),
        "__builtin__.eval": ("__builtin__", "eval", (f"exec({code!r})",)),
        "io.open": ("io", "open", (path, "w")),
        "pathlib.Path": ("pathlib", "Path", (path,)),
        "subprocess.Popen": ("subprocess", "Popen", (["touch", path],)),
        "subprocess.check_output": ("subprocess", "check_output", (["touch", path],)),
        "pty.spawn": ("pty", "spawn", (["touch", path],)),
        "marshal.loads": ("marshal", "loads", (marshal.dumps(compile(code, "", "exec")),)),
        "runpy.run_path": ("runpy", "run_path", (path,)),
        "runpy._run_code": ("runpy", "_run_code", (code, {})),
        "pkgutil.resolve_name": ("pkgutil", "resolve_name", ("os:system",)),
        "importlib.import_module": ("importlib", "import_module", ("antigravity",)),
        "operator.attrgetter": ("operator", "attrgetter", ("system",)),
        "operator.methodcaller": ("operator", "methodcaller", ("system", command)),
        "timeit.timeit": ("timeit", "timeit", ("pass", code)),
        "code.InteractiveInterpreter": ("code", "InteractiveInterpreter", ()),
        "ctypes.CDLL": ("ctypes", "CDLL", (path,)),
        "webbrowser.open": ("webbrowser", "open", (path,)),
        "shutil.copy": ("shutil", "copy", (path, path)),
        "sys.setrecursionlimit": ("sys", "setrecursionlimit", (1,)),
        "pickle.loads": ("_pickle", "loads", (call(system, put(command)) + STOP,)),
        "numpy.load": ("numpy", "load", (path, None, True)),
        "torch.load": ("torch.serialization", "load", (path,)),
        "torch.hub.load": ("torch.hub", "load", (path, "model")),
        "copyreg._reconstructor": ("copyreg", "_reconstructor", ()),
        "torch_utils.persistence.import_hook": ("torch_utils.persistence", "import_hook", ()),
        "dnnlib.util.call_func_by_name": ("dnnlib.util", "call_func_by_name", ()),
    }
    return {key: call(name(module, attribute), *map(put, args)) for key, (module, attribute, args) in calls.items()}


LIVE_CALLS = (
    *("os.system", "posix.system", "builtins.eval", "builtins.exec", "builtins.open", "subprocess.check_output"),
    *("timeit.timeit", "pickle.loads"),
)


def indirect_calls(command: str) -> dict[str, bytes]:
    """Ways of reaching a function other than calling it by its name."""
    system, easy_dict = name("posix", "system"), name("dnnlib.util", "EasyDict")
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    swapped = b"\x80\x04" + put("torch.storage") + b"q\x00" + put("posix") + b"q\x00h\x00"
    attack = call(system, put(command))
    return {
        "nested in a container": put([]) + attack + b"a",
        "nested in arguments": call(easy_dict, attack),
        "nested in a dict": put({}) + put("key") + attack + b"s",
        "result called": call(call(name("functools", "partial"), system, put(command))),
        "name without call": put(["data"]) + system + b"a",
        "popped": attack + b"0" + put({}),
        "after a popped mark": MARK + attack + b"1" + put({}),
        "dotted name": call(stack_name("torch_utils.persistence", "sys.modules"), put("os")),
        "dotted name of an import": call(stack_name("dnnlib.util", "os.system"), put(command)),
        "name in the module part": call(stack_name("", "os.system"), put(command)),
        "name that is no text": put(1) + put("system") + b"\x93" + put(command) + TUPLE1 + REDUCE,
        "memo overwritten": swapped + put("system") + b"\x93" + put(command) + TUPLE1 + REDUCE,
        "INST": MARK + put(command) + b"iposix\nsystem\n",
        "OBJ": MARK + system + put(command) + b"o",
        "OBJ of an allowed name": MARK + easy_dict + b"o",
        "NEWOBJ": name("subprocess", "Popen") + put((["touch"],)) + b"\x81",
        "NEWOBJ_EX": easy_dict + b")" + put({"shell": True}) + b"\x92",
        "EXT1": b"\x80\x02\x82\x01",
        "EXT2": b"\x80\x02\x83\x01\x01",
        "EXT4": b"\x80\x02\x84\x01\x01\x01\x01",
        "PERSID": b"Pid\n",
        "BINPERSID of a call": attack + b"Q",
        "NEXT_BUFFER": b"\x80\x05\x97",
        "REDUCE of text": put("os.system") + put((command,)) + REDUCE,
        "REDUCE of a marker": name("numpy", "ndarray") + put(((1 << 40,),)) + REDUCE,
        "dict from arguments": call(name("collections", "OrderedDict"), put([["a", 1]])),
        "BUILD of a dict": call(easy_dict) + put({"__class__": 1}) + BUILD,
        "BUILD of a function": rebuild + put({"__code__": 1}) + BUILD,
        "BUILD with slots": rebuild + put((None, {"__defaults__": ()})) + BUILD,
        "BUILD of a class": name("numpy", "dtype") + put((None, {"set_state": 1})) + BUILD,
        "SETITEM of a class": easy_dict + put("update") + put(1) + b"s",
        "APPEND to a dict": put({}) + put(1) + b"a",
        "ADDITEMS to a list": put([]) + MARK + put("a") + b"\x90",
    }


def storage(*pickles: Any, num_elements: int = 1, data: bytes = b"\0\0\0\0") -> bytes:
    """A call that loads a torch storage; ``pickles`` replace the last of the five in its header."""
    reference = name("torch", "FloatStorage")
    reference = MARK + put("storage") + reference + put("0") + put("cpu") + put(num_elements) + put(None) + b"tQ"
    header = [put(0x1950A86A20F9469CFC6C), put(1001), put({"little_endian": True}), reference, put(["0"])]
    header[len(header) - len(pickles) :] = pickles
    payload = b"".join(b"\x80\x02" + item + STOP for item in header) + struct.pack("<q", num_elements) + data
    return call(name("torch.storage", "_load_from_bytes"), put_bytes(payload))


def put_bytes(data: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(data)) + data


def zip_storage() -> bytes:
    buffer = io.BytesIO()
    torch.save(torch.zeros(1).untyped_storage(), buffer)
    return call(name("torch.storage", "_load_from_bytes"), put_bytes(buffer.getvalue()))


def tensor(of: bytes, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    arguments = (put(offset), put(size), put(stride), put(False), put(None))
    return call(name("torch._utils", "_rebuild_tensor_v2"), of, *arguments)


def array(code: str, shape: tuple[int, ...], data: Any, byte_order: str = "<") -> bytes:
    dtype = call(name("numpy", "dtype"), put(code), put(False), put(True))
    dtype += put((3, byte_order, None, None, None, -1, -1, 0)) + BUILD
    made = call(name("numpy._core.multiarray", "_reconstruct"), name("numpy", "ndarray"), put((0,)), put_bytes(b"b"))
    state = (
        MARK + put(1) + put(shape) + dtype + put(False) + (put_bytes(data) if isinstance(data, bytes) else put(data))
    )
    return made + state + b"t" + BUILD


def false_data(command: str) -> dict[str, bytes]:
    """Tensors and arrays that carry calls, or are not what they say."""
    attack = call(name("posix", "system"), put(command))
    easy_dict = name("dnnlib.util", "EasyDict")
    return {
        "storage that is a pickle": call(name("torch.storage", "_load_from_bytes"), put_bytes(attack + STOP)),
        "storage with a call in its keys": storage(attack),
        "storage with a call as reference": storage(attack, put(["0"])),
        "storage with a call in its header": storage(attack, put(""), put(["0"])),
        "storage that names another class": storage(easy_dict, put(["0"])),
        "storage in a zip": zip_storage(),
        "storage of no bytes": call(name("torch.storage", "_load_from_bytes"), put("text")),
        "storage larger than its bytes": storage(num_elements=1 << 50),
        "storage smaller than its bytes": storage(data=bytes(8)),
        "storage of negative size": storage(num_elements=-1),
        "tensor of text": tensor(put("data"), 0, (1,), (1,)),
        "tensor beyond its storage": tensor(storage(), 0, (2,), (1,)),
        "tensor at an offset": tensor(storage(), 1, (1,), (1,)),
        "tensor at a negative offset": tensor(storage(), -1, (1,), (1,)),
        "tensor of huge stride": tensor(storage(num_elements=2, data=bytes(8)), 0, (2,), (1 << 62,)),
        "tensor that unfolds": tensor(storage(), 0, (1 << 20, 1 << 20), (0, 0)),
        "tensor of many dimensions": tensor(storage(), 0, (1,) * 100, (1,) * 100),
        "parameter of text": call(name("torch._utils", "_rebuild_parameter"), put("x"), put(False), put(None)),
        "array of objects": array("O8", (1,), ["x"], byte_order="|"),
        "array of structures": array("V8", (1,), bytes(8)),
        "array larger than its bytes": array("f4", (1 << 40,), bytes(4)),
        "array of negative shape": array("f4", (-1, -1), bytes(4)),
        "array of text": array("f4", (1,), ["x"]),
        "scalar of another size": call(
            name("numpy._core.multiarray", "scalar"), call(name("numpy", "dtype"), put("f8")), put_bytes(bytes(4))
        ),
    }


def exhausting() -> dict[str, bytes]:
    """Small or malformed files that make a careless reader run out of memory, stack or patience."""
    huge = struct.pack("<Q", 1 << 62)
    return {
        "endless text": b"\x8d" + huge + b"x",
        "endless bytes": b"\x80\x04\x8e" + huge + b"x",
        "endless bytearray": b"\x80\x05\x96" + huge + b"x",
        "endless integer": b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b"x",
        "integer of negative size": b"\x80\x02\x8b" + struct.pack("<i", -1),
        "large integer": b"\x80\x02\x8b" + struct.pack("<i", 1 << 10) + b"\x01" * (1 << 10),
        "decimal integer": b"L" + b"9" * 100_000 + b"L\n",
        "large text": b"X" + struct.pack("<I", 1 << 23) + b"x" * (1 << 23),
        "line without end": b"V" + b"x" * (1 << 23),
        "key of nested tuples": put({}) + b")" + TUPLE1 * 200_000 + put(1) + b"s",
        "set of nested tuples": b"\x80\x04\x8f(" + b")" + TUPLE1 * 200_000 + b"\x90",
        "marks without end": MARK * 200_000,
        "memo never filled": b"j\xff\xff\xff\xff",
        "empty stack": REDUCE,
        "two results": put(1) + put(2),
        "mark missing": b"t",
        "odd dict": MARK + put("a") + b"d",
        "unknown opcode": b"\xff",
        "no number": b"Ix\n",
        "broken text": b"X" + struct.pack("<I", 1) + b"\xff",
    }


def all_malicious_pickles(canary: Path) -> dict[str, bytes]:
    """Every attack by name; the canary is touched if one succeeds."""
    command, code = f"touch {canary}", f"open({str(canary)!r}, 'w').close()"
    attacks = named_calls(command, code, str(canary)) | indirect_calls(command) | false_data(command) | exhausting()
    return {key: attack + STOP for key, attack in attacks.items()}
