import copy
import io
import pickle

import pytest
import torch

from dnnlib.errors import UserError
from torch_utils import safe_pickle
from torch_utils.safe_pickle import PersistentObject, RefusedPickleError
from training.networks import Generator
from training.snapshots.build import WeightBudget, build_network
from training.snapshots.settings import MAX_SETTINGS

CLASSES = {"Generator": "training.networks.Generator"}


@pytest.fixture
def network():
    return Generator(z_dim=4, c_dim=2, w_dim=4, img_resolution=8, img_channels=1, mapping_kwargs={"num_layers": 2})


@pytest.fixture
def record(network):
    return safe_pickle.load(io.BytesIO(pickle.dumps(network)))


def child(record: PersistentObject, path: str) -> dict:
    """State of a part of the network, for tests to spoil."""
    for name in path.split("."):
        record = record.state["_modules"][name]
    return record.state


def error_of(record) -> str:
    with pytest.raises(UserError) as caught:
        build_network(record, CLASSES)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400
    return str(caught.value)


def test_tensors_and_settings_are_restored(network, record):
    built = build_network(record, CLASSES)
    assert built.init_kwargs == network.init_kwargs
    assert built.state_dict().keys() == network.state_dict().keys()
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in built.state_dict().items())


def test_positional_settings_are_restored():
    network = Generator(4, 0, 4, 8, 1)
    built = build_network(safe_pickle.load(io.BytesIO(pickle.dumps(network))), CLASSES)
    assert built.init_args == (4, 0, 4, 8, 1)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool])
def test_weights_that_are_no_floating_point_numbers_are_refused(network, dtype):
    network.mapping.fc0.weight = torch.nn.Parameter(network.mapping.fc0.weight.to(dtype), requires_grad=False)
    record = safe_pickle.load(io.BytesIO(pickle.dumps(network)))
    assert f"mapping.fc0.weight: expected floating-point numbers, got {dtype}" in error_of(record)


def test_other_dtypes_become_float32(network):
    half = safe_pickle.load(io.BytesIO(pickle.dumps(copy.deepcopy(network).half())))
    built = build_network(half, CLASSES)
    assert {parameter.dtype for parameter in built.parameters()} == {torch.float32}
    assert torch.equal(built.mapping.fc0.weight, network.mapping.fc0.weight.half().float())


def test_random_numbers_are_left_alone(record):
    before = torch.get_rng_state()
    build_network(record, CLASSES)
    assert torch.equal(torch.get_rng_state(), before)


def test_tensors_of_the_record_are_not_shared(record):
    first, second = build_network(record, CLASSES), build_network(record, CLASSES)
    first.mapping.fc0.weight.zero_()
    assert second.mapping.fc0.weight.any()


def test_unknown_classes_are_refused(record):
    for class_name in ("Other", "training.networks.Generator", "__init__"):
        with pytest.raises(RefusedPickleError, match=f"'{class_name}'"):
            build_network(PersistentObject(class_name, record.state), CLASSES)
    for other in (None, {}, "Generator", torch.zeros(1)):
        assert "expected a network" in error_of(other)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"img_resolution": 1 << 30}, "'img_resolution' is 1073741824"),
        ({"img_resolution": 1 << 16}, "more weights than the file holds"),
        ({"w_dim": 1 << 20}, "more weights than the file holds"),
        ({"w_dim": -(1 << 20)}, "more weights than the file holds"),
        ({"mapping_kwargs": {"num_layers": 1_000_000}}, "'num_layers' is 1000000"),
        ({"synthesis_kwargs": {"num_fp16_res": -(1 << 40)}}, "'num_fp16_res'"),
        ({"synthesis_kwargs": {"resample_filter": [1] * 10_000}}, f"more than {MAX_SETTINGS} values"),
        ({"img_resolution": 7}, "power of two"),
        ({"img_resolution": "8"}, "cannot be built"),
        ({"unknown": 1}, "'unknown'"),
        ({"c_dim": torch.zeros(1)}, "'c_dim' is a Tensor"),
    ],
)
def test_settings_that_make_no_network_are_errors(record, settings, named):
    record.state["_init_kwargs"].update(settings)
    assert named in error_of(record)


@pytest.mark.parametrize("settings", [{"_init_args": [1]}, {"_init_kwargs": None}])
def test_lost_settings_are_errors(record, settings):
    record.state.update(settings)
    assert "without its settings" in error_of(record)


def test_tensors_must_fit_by_name_and_shape(record):
    weights = child(record, "mapping.fc1")["_parameters"]
    good = weights.pop("weight")
    assert error_of(record) == "mapping.fc1.weight: missing in the file"
    weights["weight"] = good[:3]
    assert error_of(record) == "mapping.fc1.weight: expected a tensor of shape [4, 4], got [3, 4]"
    weights["weight"] = "text"
    assert error_of(record) == "mapping.fc1.weight: expected a tensor of shape [4, 4], got str"
    weights["weight"] = good
    weights["extra"] = good
    assert error_of(record) == "mapping.fc1.extra: unexpected in the file"
    weights["extra"] = None
    build_network(record, CLASSES)


def test_parts_must_fit_by_name_and_class(record):
    children = child(record, "mapping")["_modules"]
    good = children.pop("fc1")
    assert error_of(record) == "mapping.fc1: missing in the file"
    for other in (record, PersistentObject("Conv2dLayer", good.state), good.state, None):
        children["fc1"] = other
        assert error_of(record) == "mapping.fc1: expected a FullyConnectedLayer"
    children["fc1"] = PersistentObject("FullyConnectedLayer", {**good.state, "_buffers": []})
    assert error_of(record) == "mapping.fc1: its tensors are missing"
    children["fc1"] = good
    children["fc2"] = good
    assert error_of(record) == "mapping.fc2: unexpected in the file"


def test_one_stored_tensor_cannot_unfold_into_many(record):
    weight = torch.zeros([200, 200])
    for layer in child(record, "mapping")["_modules"].values():
        layer.state["_parameters"]["weight"] = weight
    record.state["_init_kwargs"].update(w_dim=200, mapping_kwargs={"num_layers": 256})
    assert "more weights than the file holds" in error_of(record)


def test_images_are_no_larger_than_what_the_file_can_be_for():
    """Without noise the same few weights serve any resolution, but the images would take 12 TB."""
    settings = {"channel_base": 1 << 20, "channel_max": 1, "use_noise": False}
    sizes = {"z_dim": 4, "c_dim": 0, "w_dim": 4, "mapping_kwargs": {"num_layers": 1}}
    for resolution, is_refused in ((512, False), (1024, False), (2048, True), (1 << 20, True)):
        G = Generator(img_resolution=resolution, img_channels=3, synthesis_kwargs=settings, **sizes)
        record = safe_pickle.load(io.BytesIO(pickle.dumps(G)))
        if is_refused:
            assert f"img_resolution {resolution} is too large for a file with so few weights" in error_of(record)
        else:
            build_network(record, CLASSES)


def test_networks_of_a_file_share_its_budget(record):
    budget = WeightBudget.of({"G": record, "again": {"G": record}})
    build_network(record, CLASSES, budget)
    build_network(record, CLASSES, budget)
    with pytest.raises(UserError, match="more weights than the file holds"):
        build_network(record, CLASSES, budget)


def test_shared_storages_count_once():
    storage = torch.zeros(1000)
    assert WeightBudget.of({"a": storage, "b": storage[:10], "c": {"d": storage.view(10, 100)}}).stored_bytes == 4000


@pytest.mark.parametrize("place", ["setting", "parameter", "module", "class"])
def test_names_out_of_the_file_are_escaped(record, place):
    name = "\x1b[2J\n" * 100
    if place == "setting":
        record.state["_init_kwargs"][name] = 1
    elif place == "parameter":
        child(record, "mapping.fc1")["_parameters"][name] = torch.zeros(1)
    elif place == "module":
        child(record, "mapping")["_modules"][name] = None
    else:
        record = PersistentObject(name, record.state)
    with pytest.raises(UserError) as caught:
        build_network(record, CLASSES)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
