"""Building our networks from what a snapshot says about them, without executing anything in it.

`torch_utils.safe_pickle` turns the persistent objects of a snapshot into records of class names and state. Here our own
class of that name is constructed with the settings in the record, and the tensors of the record are copied into it. A
record that does not match our class in every name and shape is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from dnnlib.util import UserError, get_obj_by_name
from torch_utils.safe_pickle import PersistentObject, RefusedPickleError

MAX_SETTINGS = 1000
MAX_NESTING = 8
MAX_NETWORK_SIZE = 1 << 20
"""Largest number among a network's settings: channels, resolution."""
MAX_NETWORK_LAYERS = 256
"""Largest number among those settings whose names speak of layers."""
MAX_UNFOLDING = 2
"""Elements in a network's tensors per element that the file holds for it."""


def build_network(record: Any, classes: Mapping[str, str]) -> torch.nn.Module:
    """Build the network that ``record`` describes, in evaluation mode, on the CPU, without gradients.

    Args:
        record: A `PersistentObject`.
        classes: Dotted names of our classes by the class names that may occur in the file.

    Raises:
        RefusedPickleError: The class is not among ``classes``.
        UserError: Settings or tensors do not fit the class, or are too large.
    """
    if not isinstance(record, PersistentObject):
        raise UserError(f"expected a network, one of {', '.join(classes)}, got a {type(record).__name__}")
    name = record.class_name
    if name not in classes:
        raise RefusedPickleError(f"class {name[:100]!a} is not one of {', '.join(classes)}")
    args, kwargs = record.state.get("_init_args", ()), record.state.get("_init_kwargs", {})
    if not (isinstance(args, tuple) and isinstance(kwargs, dict)):
        raise UserError(f"{name} was stored without its settings")
    network = construct(classes[name], args, kwargs, _num_stored_elements(record))
    return fill(network, dict(_stored_tensors(network, record, "")))


def construct(class_name: str, args: tuple[Any, ...], kwargs: dict[str, Any], num_stored: int) -> torch.nn.Module:
    """Construct our class of that dotted name with settings that nobody has checked; its weights have no values yet.

    Args:
        class_name: Dotted name of our class.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        num_stored: How many elements the file holds for the network, which limits what is reserved for it.

    Raises:
        UserError: The settings are not plain data, too large, or not what the class takes.
    """
    name = class_name.rpartition(".")[2]
    check_settings({**kwargs, "": args}, f"settings of {name}", is_network=True)
    network_class = get_obj_by_name(class_name)
    try:
        with _BoundedWeights(MAX_UNFOLDING * num_stored):
            return network_class(*args, **kwargs)
    except Exception as error:  # whatever a constructor does with such settings
        raise UserError(f"{name} cannot be built with its stored settings: {str(error)[:200]}") from error


def fill(network: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Copy tensors of the right names and shapes into a constructed network and make it ready for use."""
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


def check_settings(settings: Mapping[str, Any], where: str, is_network: bool = False) -> None:
    """Make sure that settings are numbers, text, None, and a moderate number of lists, tuples and dicts of them.

    Args:
        settings: The settings by name.
        where: What they are, for the error.
        is_network: Limit the numbers too, to what a network can have.

    Raises:
        UserError: They are not.
    """
    pending: list[tuple[str, Any, int]] = [("", settings, 0)]
    num_seen = 0
    while pending:
        key, value, depth = pending.pop()
        num_seen += 1
        if depth > MAX_NESTING or num_seen + len(pending) > MAX_SETTINGS:
            raise UserError(f"{where}: more than {MAX_SETTINGS} values or {MAX_NESTING} levels")
        if isinstance(value, dict):
            pending += [(name, item, depth + 1) for name, item in value.items()]
        elif isinstance(value, list | tuple):
            pending += [(key, item, depth + 1) for item in value]
        elif not (value is None or isinstance(value, bool | int | float | str)):
            raise UserError(f"{where}: {key[:100]!a} is a {type(value).__name__}, not plain data")
        elif is_network and isinstance(value, int):
            largest = MAX_NETWORK_LAYERS if "layers" in key else MAX_NETWORK_SIZE
            if abs(value) > largest:
                raise UserError(f"{where}: {key[:100]!a} is {value}, at most {largest} is allowed")


class _BoundedWeights(TorchFunctionMode):
    """Gives new weights memory without values, and no more of it than a number of elements."""

    FACTORIES = (torch.empty, torch.full, torch.ones, torch.rand, torch.randn, torch.zeros)

    def __init__(self, max_elements: int) -> None:
        super().__init__()
        self._num_left = max_elements

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in self.FACTORIES:
            size = args[0] if isinstance(args[0], list | tuple) else args
            self._num_left -= math.prod(map(abs, size))
            if self._num_left < 0:
                raise UserError("they ask for more weights than the file holds")
        if func in (torch.rand, torch.randn):
            func = torch.empty  # The values will be replaced; this also leaves the caller's random numbers alone.
        return func(*args, **(kwargs or {}))


def _num_stored_elements(record: PersistentObject) -> int:
    """Count the elements in all storages of a record, shared ones once."""
    storages: dict[int, int] = {}
    seen: set[int] = set()
    pending: list[Any] = [record]
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes() // value.element_size()
        elif isinstance(value, PersistentObject):
            pending.append(value.state)
        elif isinstance(value, dict):
            pending.extend(value.values())
    return sum(storages.values())


def _stored_tensors(module: torch.nn.Module, record: Any, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Walk our module and the stored one side by side; yield the stored tensors by their names in ``state_dict``."""
    where = prefix.rstrip(".") or type(module).__name__
    if not (isinstance(record, PersistentObject) and record.class_name == type(module).__name__):
        raise UserError(f"{where}: expected a {type(module).__name__}")
    parameters, buffers, children = (record.state.get(key) for key in ("_parameters", "_buffers", "_modules"))
    if not (isinstance(parameters, dict) and isinstance(buffers, dict) and isinstance(children, dict)):
        raise UserError(f"{where}: its tensors are missing")
    our_tensors = dict([*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)])
    our_children = dict(module.named_children())
    tensors = {name: tensor for name, tensor in {**parameters, **buffers}.items() if tensor is not None}
    for ours, theirs in ((our_tensors, tensors), (our_children, children)):
        if ours.keys() != theirs.keys():
            name = min(ours.keys() ^ theirs.keys())
            raise UserError(f"{prefix}{name[:100]}: {'missing' if name in ours else 'unexpected'} in the file")
    for name, tensor in tensors.items():
        expected = list(our_tensors[name].shape)
        found = list(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        if found != expected:
            raise UserError(f"{prefix}{name}: expected a tensor of shape {expected}, got {found}")
        yield prefix + name, tensor
    for name, child in our_children.items():
        yield from _stored_tensors(child, children[name], f"{prefix}{name}.")
