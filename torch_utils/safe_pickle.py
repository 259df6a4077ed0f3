"""Reading pickles of networks, tensors and arrays from anyone, without executing anything in them.

`load` knows the few names that snapshots of StyleGAN2(-ADA) use. Networks come out as inert records: their class name
and their state, for others to build from.
"""

from __future__ import annotations

import io
import math
import re
import sys
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import torch

from dnnlib.util import EasyDict, UserError
from torch_utils import persistence
from torch_utils.pickle_machine import BoundedReader, PersistentId, Record, RefusedPickleError, read_pickle

__all__ = ["PersistentObject", "PickledArray", "RefusedPickleError", "TFNetwork", "load"]

MAX_DIMS = 8
MAX_COMPONENTS = 8
MAX_NAME_CHARS = 100
MAX_SET = 10

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


def load(file: IO[bytes]) -> Any:
    """Read a pickle of plain data, tensors, NumPy arrays and persistent or TensorFlow-era networks.

    Tensors come back on the CPU without gradients, ordered dicts as dicts, arrays as `PickledArray`, NumPy scalars
    as Python numbers, networks as `PersistentObject` and `TFNetwork`. Together they are not much larger than the file.

    Args:
        file: Open for reading in binary mode; if it cannot seek, it is read into memory.

    Raises:
        RefusedPickleError: The file asks for anything else, or is nested or sized beyond the limits.
        UserError: The file is truncated or malformed.
    """
    reader = BoundedReader(file if file.seekable() else io.BytesIO(file.read()))
    budget = _Budget(reader.remaining)
    allowed = _ALLOWED | {
        "torch.storage._load_from_bytes": lambda payload: _load_storage(payload, budget),
        "torch_utils.persistence._reconstruct_persistent_obj": lambda meta: _make_persistent_object(meta, budget),
    }
    return read_pickle(reader, allowed)


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
        """Take settings, variables and components; the source text beside them stays unread."""
        _require(isinstance(state, dict), "a TensorFlow network without state")
        settings, variables, components = (state.get(key) for key in ("static_kwargs", "variables", "components"))
        is_known = isinstance(settings, dict) and isinstance(variables, list) and isinstance(components, dict)
        _require(is_known and len(components) <= MAX_COMPONENTS, "a TensorFlow network of unknown layout")
        self.static_kwargs, self._variables, self._components = settings, variables, components

    def variables(self) -> dict[str, np.ndarray]:
        """Return its arrays and those of its components by names like ``'synthesis/4x4/Const/const'``.

        Raises:
            UserError: They are not arrays with names.
        """
        found: dict[str, np.ndarray] = {}
        for component, network in [("", self), *self._components.items()]:
            _require(isinstance(network, TFNetwork) and len(component) <= MAX_NAME_CHARS, "a strange component")
            for variable in network._variables:
                _require(isinstance(variable, tuple) and len(variable) == 2, "a strange variable")
                name, value = variable
                _require(isinstance(name, str) and isinstance(value, PickledArray | int | float), "a strange variable")
                value = value.values if isinstance(value, PickledArray) else np.asarray(value)
                found[f"{component}/{name}" if component else name] = value
        return found


class _Budget:
    """Keeps a file from being unfolded: what it holds once, it can ask for again and again."""

    def __init__(self, num_bytes: int) -> None:
        self._num_left = num_bytes

    def spend(self, num_bytes: int) -> None:
        self._num_left -= num_bytes
        if self._num_left < 0:
            raise RefusedPickleError("the file asks for more data than it holds")


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise UserError(f"the pickle is malformed ({otherwise})")


def _is_size(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) <= MAX_DIMS and all(type(n) is int and n >= 0 for n in value)


def _make_persistent_object(meta: Any, budget: _Budget) -> PersistentObject:
    # read_meta quotes these two when it does not know them.
    _require(isinstance(meta, dict) and meta.get("type") == "class", "a strange persistent object")
    _require(type(meta.get("version")) is int, "a strange persistent object")
    budget.spend(len(meta.get("state", ())))
    meta = persistence.read_meta(meta)
    return PersistentObject(meta.class_name, meta.state)


def _make_set(items: Any) -> set[str]:
    _require(isinstance(items, list) and len(items) <= MAX_SET, "a strange set")
    _require(all(type(item) is str for item in items), "a strange set")
    return set(items)


def _make_dict() -> dict[str, Any]:
    return {}


def _make_easy_dict() -> EasyDict:
    return EasyDict()


# Tensors


@dataclass(frozen=True, eq=False)
class _Storage:
    flat: torch.Tensor


def _load_storage(payload: Any, budget: _Budget) -> _Storage:
    """Read what ``torch.save`` wrote for one storage: five pickles, the number of elements, the elements."""
    _require(isinstance(payload, bytes), "a storage without bytes")
    reader = BoundedReader(io.BytesIO(payload))
    magic, protocol, system, reference, _keys = (read_pickle(reader, _STORAGE_DTYPES) for _ in range(5))
    _require(magic == _TORCH_MAGIC and protocol == _TORCH_PROTOCOL, "an unknown storage format")
    _require(isinstance(system, dict), "an unknown storage format")
    _require(system.get("little_endian") is (sys.byteorder == "little"), "a storage of another byte order")
    _require(isinstance(reference, PersistentId) and isinstance(reference.value, tuple), "a storage without reference")
    kind, dtype, _key, _device, num_elements, view = reference.value
    _require(kind == "storage" and isinstance(dtype, torch.dtype) and view is None, "a storage of unknown layout")
    reader.read(8)  # the number of elements once more
    _require(reader.remaining == num_elements * dtype.itemsize, "a storage of another size")
    budget.spend(reader.remaining)
    data = bytearray(memoryview(payload)[len(payload) - reader.remaining :])
    return _Storage(torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype))


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_autograd: Any) -> torch.Tensor:
    _require(isinstance(storage, _Storage) and _is_size((offset,)), "a tensor without storage")
    _require(_is_size(size) and _is_size(stride) and len(size) == len(stride), "a tensor of strange shape")
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


# NumPy arrays


class _DType(Record):
    """A numeric dtype; its byte order comes with its state."""

    def __init__(self, code: Any, *_flags: Any) -> None:
        _require(isinstance(code, str) and re.fullmatch(r"[fiu][1248]|b1", code) is not None, "not a numeric dtype")
        self._code = code
        self._byte_order = "="

    def set_state(self, state: Any) -> None:
        _require(isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="), "a strange dtype")
        self._byte_order = state[1]

    def read(self, data: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Interpret ``data``, which must have exactly the size of an array of this shape."""
        dtype = np.dtype(self._byte_order + self._code)
        _require(isinstance(data, bytes) and len(data) == math.prod(shape) * dtype.itemsize, "an array of another size")
        return np.frombuffer(data, dtype).reshape(shape)


class PickledArray(Record):
    """A NumPy array in a pickle, where it is made first and filled later.

    Attributes:
        values: The array, read-only.
    """

    def __init__(self) -> None:
        self.values = np.empty(0)

    def set_state(self, state: Any) -> None:
        """Take shape, dtype, memory order and bytes."""
        _require(isinstance(state, tuple) and len(state) == 5, "a strange array")
        _version, shape, dtype, is_fortran, data = state
        _require(_is_size(shape) and isinstance(dtype, _DType), "an array of strange shape")
        self.values = dtype.read(data, shape[::-1]).T if is_fortran is True else dtype.read(data, shape)


def _make_array(kind: Any, _shape: Any, _code: Any) -> PickledArray:
    _require(kind == _NDARRAY, "a strange array")
    return PickledArray()


def _make_scalar(dtype: Any, data: Any) -> int | float | bool:
    _require(isinstance(dtype, _DType), "a strange scalar")
    return dtype.read(data, ()).item()


_NDARRAY = "numpy.ndarray"
_ALLOWED: dict[str, Any] = {
    "builtins.set": _make_set,
    "__builtin__.set": _make_set,
    "collections.OrderedDict": _make_dict,
    "dnnlib.util.EasyDict": _make_easy_dict,
    "dnnlib.tflib.network.Network": TFNetwork,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": _DType,
    "numpy.core.multiarray._reconstruct": _make_array,
    "numpy.core.multiarray.scalar": _make_scalar,
    "numpy._core.multiarray._reconstruct": _make_array,
    "numpy._core.multiarray.scalar": _make_scalar,
}
