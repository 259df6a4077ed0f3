"""Reading untrusted pickles of networks, tensors and arrays without executing anything in them (docs/security.md).

`load` knows the few names that snapshots of StyleGAN2(-ADA) and NumPy arrays use. Networks come out as inert records:
their class name and their state, for others to build from.
"""

from __future__ import annotations

import io
import math
import re
import sys
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

import numpy as np
import torch

from dnnlib.errors import UserError
from dnnlib.util import EasyDict
from torch_utils import persistence
from torch_utils.pickle_machine import (
    MAX_NAME_CHARS,
    BoundedReader,
    Budget,
    LongText,
    PersistentId,
    Record,
    RefusedPickleError,
    Unknown,
    read_pickle,
)

__all__ = ["PersistentObject", "PickledArray", "RefusedPickleError", "TFNetwork", "Unknown", "load"]

MAX_STREAM_BYTES = 1 << 32
"""Most bytes read from a file that cannot seek, such as a pipe."""
MAX_DIMS = 8
MAX_COMPONENTS = 8
MAX_VARIABLES = 1000
MAX_META = 16
MAX_SET = 10
DICT_ENTRY_BYTES = 128
"""Memory per entry of a dict, at most."""

_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_PROTOCOL = 1001
_STORAGE_DTYPES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}


def load(file: IO[bytes], keep_unknown: bool = False) -> Any:
    """Read a pickle of plain data, tensors, NumPy arrays and persistent or TensorFlow-era networks.

    Tensors come back on the CPU without gradients, ordered dicts as dicts, arrays as `PickledArray`, NumPy scalars
    as Python numbers, networks as `PersistentObject` and `TFNetwork`, strings of Python 2 and keys of bytes as text.
    Memory and time stay within a small multiple of the size of the file.

    Args:
        file: Open for reading in binary mode.
        keep_unknown: Put an inert `Unknown` where the file names something else, instead of refusing the file.

    Raises:
        RefusedPickleError: The file asks for anything else, or is nested or sized beyond the limits.
        UserError: The file is truncated or malformed.
    """
    reader = BoundedReader(as_seekable(file))
    budget = Budget(reader.remaining)
    functions = {
        "_codecs.encode": partial(_encode, budget),
        "torch.storage._load_from_bytes": partial(_load_storage, budget),
        "torch_utils.persistence._reconstruct_persistent_obj": partial(_make_persistent_object, budget),
    }
    for core in ("numpy.core", "numpy._core"):  # before NumPy 2, and since
        functions[f"{core}.multiarray._reconstruct"] = partial(_make_array, budget)
        functions[f"{core}.multiarray.scalar"] = partial(_make_scalar, budget)
    if keep_unknown:
        functions |= {name: partial(_call_or_unknown, name) for name in _OFTEN_UNKNOWN}
    return read_pickle(reader, _ALLOWED | functions, budget, keep_unknown)


def as_seekable(file: IO[bytes]) -> IO[bytes]:
    """Return the file, or, if it cannot seek, what it holds, read into memory.

    Raises:
        UserError: It holds more than `MAX_STREAM_BYTES`.
    """
    if file.seekable():
        return file
    data = file.read(MAX_STREAM_BYTES + 1)
    if len(data) > MAX_STREAM_BYTES:
        raise UserError(f"holds more than {MAX_STREAM_BYTES >> 30} GiB; save it to a file first")
    return io.BytesIO(data)


@dataclass(frozen=True, eq=False)
class PersistentObject:
    """What a pickle says about one object of a persistent class (`torch_utils.persistence`)."""

    class_name: str
    state: dict[str, Any]


class TFNetwork(Record):
    """What a pickle of the TensorFlow era says about one network.

    Attributes:
        static_kwargs: The settings that it was built with.
    """

    def __init__(self) -> None:
        self.static_kwargs: dict[str, Any] = {}
        self._variables: list[Any] = []
        self._components: dict[str, Any] = {}

    def set_state(self, state: Any) -> None:
        """Take settings, variables and components; the embedded source text is not read."""
        _require(isinstance(state, dict), "a TensorFlow network without state")
        settings, variables, components = (state.get(key) for key in ("static_kwargs", "variables", "components"))
        is_known = isinstance(settings, dict) and isinstance(variables, list) and isinstance(components, dict)
        _require(is_known and len(components) <= MAX_COMPONENTS, "a TensorFlow network of unknown layout")
        _require(len(variables) <= MAX_VARIABLES, f"a TensorFlow network of more than {MAX_VARIABLES} variables")
        self.static_kwargs, self._variables, self._components = settings, variables, components

    def variables(self) -> dict[str, np.ndarray]:
        """Return its arrays and those of its components by names like ``'synthesis/4x4/Const/const'``.

        Raises:
            UserError: They are not arrays with names.
        """
        found: dict[str, np.ndarray] = {}
        for component, network in [("", self), *self._components.items()]:
            _require(isinstance(network, TFNetwork) and _is_name(component), "not a component of a TensorFlow network")
            for variable in network._variables:
                _require(type(variable) is tuple and len(variable) == 2, "not a variable of a TensorFlow network")
                name, value = variable
                _require(_is_name(name), "not a variable of a TensorFlow network")
                found[f"{component}/{name}" if component else name] = _values(value)
        return found


def _values(variable: Any) -> np.ndarray:
    if isinstance(variable, PickledArray):
        return variable.values
    _require(type(variable) in (int, float), "not a variable of a TensorFlow network")
    return np.asarray(variable)


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise UserError(f"the pickle is malformed ({otherwise})")


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_NAME_CHARS


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_size(value: Any) -> bool:
    return type(value) is tuple and len(value) <= MAX_DIMS and all(map(_is_count, value))


def _encode(budget: Budget, text: Any, encoding: Any) -> bytes:
    """Turn text into the bytes that it stands for in protocols 0 to 2, which have no opcode for bytes."""
    if encoding != "latin1":
        shown = f" {encoding[:20]!a}" if isinstance(encoding, str) else ""
        raise RefusedPickleError(f"text encoding{shown} is not allowed")
    return _to_bytes(budget, text)


def _to_bytes(budget: Budget, data: Any) -> Any:
    """Encode data that is text, as Python 2 writes it; anything else is returned as it is, for the caller to check."""
    data = data.value if isinstance(data, LongText) else data
    if not isinstance(data, str):
        return data
    budget.spend_memory(len(data))
    return data.encode("latin1")


def _make_persistent_object(budget: Budget, meta: Any) -> PersistentObject:
    _require(isinstance(meta, dict) and len(meta) <= MAX_META, "not the description of a persistent object")
    state = meta.get("state")
    _require(isinstance(state, dict), "a persistent object without state")
    budget.spend_memory(DICT_ENTRY_BYTES * len(state))
    meta = persistence.read_meta(meta)
    return PersistentObject(meta.class_name, meta.state)


def _make_set(items: Any) -> set[str]:
    _require(isinstance(items, list) and len(items) <= MAX_SET, "a set of more than a few names")
    _require(all(type(item) is str for item in items), "a set of more than a few names")
    return set(items)


def _make_bytes() -> bytes:
    return b""


def _make_dict() -> dict[str, Any]:
    return {}


def _make_easy_dict() -> EasyDict:
    return EasyDict()


@dataclass(frozen=True, eq=False)
class _Storage:
    flat: torch.Tensor


def _load_storage(budget: Budget, payload: Any) -> _Storage:
    """Read what ``torch.save`` wrote for one storage: five pickles, the number of elements, the elements."""
    _require(isinstance(payload, bytes), "a storage without bytes")
    budget.spend_data(len(payload))
    reader = BoundedReader(io.BytesIO(payload))
    magic, protocol, system, reference, _keys = (read_pickle(reader, _STORAGE_DTYPES, budget) for _ in range(5))
    _require(magic == _TORCH_MAGIC and protocol == _TORCH_PROTOCOL, "an unknown storage format")
    _require(isinstance(system, dict), "an unknown storage format")
    _require(system.get("little_endian") is (sys.byteorder == "little"), "a storage of another byte order")
    _require(isinstance(reference, PersistentId) and type(reference.value) is tuple, "a storage without reference")
    _require(len(reference.value) == 6, "a storage of unknown layout")
    kind, dtype, _key, _device, num_elements, view = reference.value
    _require(kind == "storage" and isinstance(dtype, torch.dtype) and view is None, "a storage of unknown layout")
    _require(_is_count(num_elements), "a storage of unknown layout")
    reader.read(8)  # the number of elements once more
    _require(reader.remaining == num_elements * dtype.itemsize, "a storage of another size")
    data = bytearray(memoryview(payload)[len(payload) - reader.remaining :])
    return _Storage(torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype))


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_autograd: Any) -> torch.Tensor:
    _require(isinstance(storage, _Storage) and _is_count(offset), "a tensor without storage")
    _require(_is_size(size) and _is_size(stride) and len(size) == len(stride), "not the shape of a tensor")
    num_elements = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    # A tensor larger than its storage would be a small file that unfolds into a huge array.
    _require(
        num_elements <= storage.flat.numel() and (num_elements == 0 or last < storage.flat.numel()),
        "a tensor beyond its storage",
    )
    return storage.flat.as_strided(size, stride, offset)


def _rebuild_parameter(data: Any, *_autograd: Any) -> torch.Tensor:
    _require(isinstance(data, torch.Tensor), "a parameter without tensor")
    return data


class _DType(Record):
    """A numeric dtype; its byte order comes with its state."""

    def __init__(self, code: Any, *_flags: Any) -> None:
        _require(_is_name(code) and re.fullmatch(r"[fiu][1248]|b1", code) is not None, "not a numeric dtype")
        self._code = code
        self._byte_order = "="

    def set_state(self, state: Any) -> None:
        """Take the byte order."""
        _require(type(state) is tuple and len(state) > 1 and state[1] in ("<", ">", "|", "="), "an unknown dtype")
        self._byte_order = state[1]

    def read(self, data: Any, shape: Any) -> np.ndarray:
        """Interpret ``data``, which must have exactly the size of an array of this shape, as one in C order."""
        dtype = np.dtype(self._byte_order + self._code)
        _require(_is_size(shape), "not the shape of an array")
        _require(isinstance(data, bytes | bytearray), "an array without bytes")
        _require(len(data) == math.prod(shape) * dtype.itemsize, "an array of another size")
        return np.frombuffer(data, dtype).reshape(shape)


class PickledArray(Record):
    """A NumPy array in a pickle, where it may be made first and filled later."""

    def __init__(self, budget: Budget | None = None, values: np.ndarray | None = None) -> None:
        self._budget = budget
        self._values = values

    @property
    def values(self) -> np.ndarray:
        """The array; raises ``UserError`` if the file has no data for it."""
        _require(self._values is not None, "an array without data")
        values: Any = self._values
        return values

    def set_state(self, state: Any) -> None:
        """Take version, shape, dtype, memory order and bytes, which Python 2 writes as text."""
        _require(type(state) is tuple and len(state) == 5, "an array of unknown layout")
        _require(self._values is None and self._budget is not None, "an array that is filled twice")
        assert self._budget is not None
        _version, shape, dtype, is_fortran, data = state
        _require(isinstance(dtype, _DType) and _is_size(shape), "not the shape of an array")
        data = _to_bytes(self._budget, data)
        self._values = dtype.read(data, shape[::-1]).T if is_fortran is True else dtype.read(data, shape)


def _make_array(budget: Budget, kind: Any, _shape: Any, _code: Any) -> PickledArray:
    _require(isinstance(kind, str) and kind == _NDARRAY, "not an array")
    return PickledArray(budget)


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any, axis_order: Any = None) -> PickledArray:
    """Make an array as protocol 5 writes it; order 'K' is C order with permuted axes."""
    _require(isinstance(dtype, _DType) and _is_size(shape) and order in ("C", "F", "K"), "an array of unknown layout")
    if order == "F":
        return PickledArray(values=dtype.read(data, shape[::-1]).T)
    if axis_order is None or order == "C":
        return PickledArray(values=dtype.read(data, shape))
    _require(_is_size(axis_order), "an array of unknown layout")
    return PickledArray(values=dtype.read(data, shape).transpose(axis_order))


def _make_scalar(budget: Budget, dtype: Any, data: Any) -> int | float | bool:
    _require(isinstance(dtype, _DType), "not a number")
    number: int | float | bool = dtype.read(_to_bytes(budget, data), ()).item()
    return number


_NDARRAY = "numpy.ndarray"
_ALLOWED: dict[str, Any] = {
    "builtins.set": _make_set,
    "__builtin__.set": _make_set,
    "__builtin__.bytes": _make_bytes,
    "collections.OrderedDict": _make_dict,
    "dnnlib.util.EasyDict": _make_easy_dict,
    "dnnlib.tflib.network.Network": TFNetwork,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": _DType,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy._core.numeric._frombuffer": _from_buffer,
}

_OFTEN_UNKNOWN = ("builtins.set", "__builtin__.set", "collections.OrderedDict", "dnnlib.util.EasyDict", "numpy.dtype")
"""Names that stand for more than networks are made of: sets of numbers, arrays of text."""


def _call_or_unknown(name: str, *arguments: Any) -> Any:
    try:
        return _ALLOWED[name](*arguments)
    except (UserError, TypeError):
        return Unknown(name)
