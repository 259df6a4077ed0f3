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

from dnnlib.errors import UserError
from dnnlib.object_names import get_obj_by_name
from torch_utils.safe_pickle import PersistentObject, RefusedPickleError, Unknown
from training.snapshots.settings import check_settings
from training.snapshots.stylegan3 import translate_settings

MAX_UNFOLDING = 2
"""Bytes of weights per byte that the file holds: float16 becomes float32, or one stored network stands for two."""
BASE_WEIGHT_BYTES = 1 << 12
MAX_SMALL_IMAGE_BYTES = 16 << 20
"""Images of up to this many bytes in float32, 1024 x 1024 in RGB, may come from a network of any size."""
MAX_IMAGE_UNFOLDING = 8
"""Bytes of a larger image per byte that the file holds."""


class WeightBudget:
    """How much memory the networks of one file may take together.

    Args:
        stored_bytes: Size of the tensors and arrays in the file.
    """

    def __init__(self, stored_bytes: int) -> None:
        self.stored_bytes = stored_bytes
        self._bytes_left = BASE_WEIGHT_BYTES + MAX_UNFOLDING * stored_bytes

    @classmethod
    def of(cls, data: Any) -> WeightBudget:
        """Count the tensors in a snapshot or network that `torch_utils.safe_pickle` read, shared ones once."""
        return cls(_num_stored_bytes(data))

    def take(self, num_bytes: int) -> None:
        """Count weights that are about to be made."""
        self._bytes_left -= num_bytes
        if self._bytes_left < 0:
            raise UserError("they ask for more weights than the file holds")


def build_network(record: Any, classes: Mapping[str, str], budget: WeightBudget | None = None) -> torch.nn.Module:
    """Build the network that ``record`` describes, in evaluation mode, on the CPU, without gradients.

    Args:
        record: A `PersistentObject`.
        classes: Dotted names of our classes by the class names that may occur in the file.
        budget: What the file has left. Default: a new one for the record.

    Raises:
        RefusedPickleError: The class is not among ``classes``.
        UserError: Settings or tensors do not fit the class, or are too large.
    """
    if isinstance(record, Unknown):
        raise RefusedPickleError(f"is made by {record.name!a}, which is not allowed")
    if not isinstance(record, PersistentObject):
        raise UserError(f"expected a network, one of {', '.join(classes)}, got a {type(record).__name__}")
    name = record.class_name
    if name not in classes:
        raise RefusedPickleError(f"class {name[:100]!a} is not one of {', '.join(classes)}")
    args, kwargs = record.state.get("_init_args", ()), record.state.get("_init_kwargs", {})
    if not (isinstance(args, tuple) and isinstance(kwargs, dict)):
        raise UserError(f"{name} was stored without its settings")
    check_settings({"args": args, "kwargs": kwargs}, f"settings of {name}", is_network=True)
    kwargs = translate_settings(name, args, kwargs, record.state)
    network = construct(classes[name], args, kwargs, budget or WeightBudget.of(record))
    return fill(network, dict(_stored_tensors(network, record, "")))


def construct(class_name: str, args: tuple[Any, ...], kwargs: dict[str, Any], budget: WeightBudget) -> torch.nn.Module:
    """Construct our class of the given dotted name with unchecked settings; its weights have no values yet.

    Args:
        class_name: Dotted name of our class.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        budget: Limits what is reserved for the weights.

    Raises:
        UserError: The settings are not plain data, too large, or not what the class takes.
    """
    name = class_name.rpartition(".")[2]
    check_settings({"args": args, "kwargs": kwargs}, f"settings of {name}", is_network=True)
    network_class = get_obj_by_name(class_name)
    try:
        with _BoundedWeights(budget):
            network: torch.nn.Module = network_class(*args, **kwargs)
        _check_image_size(network, budget)
        return network
    except Exception as error:  # unchecked settings can make a constructor raise anything
        raise UserError(f"{name} cannot be built with its stored settings: {str(error)[:200]!a}") from error


def fill(network: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Copy tensors of the right names and shapes into a constructed network and make it ready for use."""
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


def first_mismatch(
    expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]
) -> tuple[str, str, str] | None:
    """Find the first tensor, by name, that is on one side only or has another shape there.

    Returns:
        Its name, quoted, and its shapes as expected and as found, ``none`` where it is missing; None if all match.
    """
    for name in sorted(expected.keys() | found.keys()):
        asked, given = (str(list(side[name].shape)) if name in side else "none" for side in (expected, found))
        if asked != given:
            return f"{name[:100]!a}", asked, given
    return None


def _check_image_size(network: Any, budget: WeightBudget) -> None:
    """Refuse networks that can be built but not used: without noise inputs, few weights suffice for any image size."""
    if hasattr(network, "img_resolution"):
        image_bytes = torch.float32.itemsize * network.img_channels * network.img_resolution**2
        if image_bytes > max(MAX_SMALL_IMAGE_BYTES, MAX_IMAGE_UNFOLDING * budget.stored_bytes):
            raise UserError(f"img_resolution {network.img_resolution} is too large for a file with so few weights")


class _BoundedWeights(TorchFunctionMode):
    """Allocates new weights without initial values, and counts them against a budget."""

    FACTORIES = (torch.empty, torch.full, torch.ones, torch.rand, torch.randn, torch.zeros)

    def __init__(self, budget: WeightBudget) -> None:
        super().__init__()
        self._budget = budget

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in self.FACTORIES:
            size = args[0] if isinstance(args[0], list | tuple) else args
            self._budget.take(torch.float32.itemsize * math.prod(map(abs, size)))
        if func in (torch.rand, torch.randn):
            func = torch.empty  # The values will be replaced; this also leaves the caller's random numbers alone.
        return func(*args, **(kwargs or {}))


def _num_stored_bytes(data: Any) -> int:
    """Count the bytes of all storages that networks can be built from, shared ones once."""
    stored: dict[int, int] = {}
    seen: set[int] = set()
    pending: list[Any] = [data]
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            stored[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        elif isinstance(value, PersistentObject):
            pending.append(value.state)
        elif isinstance(value, dict):
            pending.extend(value.values())
    return sum(stored.values())


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
            shown = ascii(name[:100])[1:-1]
            raise UserError(f"{prefix}{shown}: {'missing' if name in ours else 'unexpected'} in the file")
    for name, tensor in tensors.items():
        expected = list(our_tensors[name].shape)
        found = list(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        if found != expected:
            raise UserError(f"{prefix}{name}: expected a tensor of shape {expected}, got {found}")
        if not tensor.is_floating_point() and tensor.dtype != our_tensors[name].dtype:  # a counter keeps its own
            raise UserError(f"{prefix}{name}: expected floating-point numbers, got {tensor.dtype}")
        yield prefix + name, tensor
    for name, child in our_children.items():
        yield from _stored_tensors(child, children[name], f"{prefix}{name}.")
