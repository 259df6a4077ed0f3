import pytest

from dnnlib.errors import UserError
from torch_utils.pickle_machine import Unknown
from torch_utils.safe_pickle import RefusedPickleError
from training.snapshots.settings import (
    MAX_NESTING,
    MAX_SETTINGS,
    MAX_TEXT_CHARS,
    check_dataset_settings,
    check_settings,
)

DATASET = {
    "class_name": "training.dataset.ImageFolderDataset",
    "path": "x.zip", "resolution": 64, "max_size": 10, "use_labels": True, "xflip": False, "random_seed": 3,
}  # fmt: skip


def test_nesting_is_limited():
    nested = 1
    for _ in range(MAX_NESTING):
        check_settings({"a": nested}, "here")
        nested = [nested]
    with pytest.raises(UserError, match="here: more than"):
        check_settings({"a": nested}, "here")


def test_values_are_limited_however_they_are_shared():
    check_settings({"a": [1] * (MAX_SETTINGS - 2)}, "here")
    shared = [1] * 40
    for many in ([1] * (MAX_SETTINGS - 1), [shared] * 25):
        with pytest.raises(UserError, match="here: more than"):
            check_settings({"a": many}, "here")


def test_text_is_limited_however_it_is_shared():
    half = "x" * (MAX_TEXT_CHARS // 2)
    check_settings({"": half}, "here")
    for texts in ([half] * 3, {half: {half: half}}):
        with pytest.raises(UserError, match="here: more than"):
            check_settings({"a": texts}, "here")


def test_unknown_objects_are_told_from_what_is_malformed():
    with pytest.raises(RefusedPickleError, match=r"here: 'a' is made by 'numpy\.random\.RandomState'"):
        check_settings({"a": [Unknown("numpy.random.RandomState")]}, "here")
    with pytest.raises(RefusedPickleError, match=r"here: 'conv_clamp' is made by 'os\.system'"):
        check_settings({"conv_clamp": Unknown("os.system")}, "here", is_network=True)
    with pytest.raises(UserError, match="here: 'a' is a set, not plain data"):
        check_settings({"a": set()}, "here")


@pytest.mark.parametrize("value", [10**400, -(10**4000), 1 << 21])
def test_large_numbers_are_cut(value):
    check_settings({"a": value}, "here")
    with pytest.raises(UserError, match="at most 1048576 is allowed") as caught:
        check_settings({"\x1b[2J": value}, "here", is_network=True)
    assert len(str(caught.value)) < 150
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("conv_clamp", value) for value in (-1, "256", [], True, float("nan"))],
        *[("lr_multiplier", value) for value in (0, -0.01, 1e30, float("inf"), float("nan"), None, "1", {})],
        ("w_avg_beta", float("nan")),
        ("resample_filter", [1, float("nan")]),
    ],
)
def test_numbers_that_only_fail_when_a_network_is_used(key, value):
    with pytest.raises(UserError, match=f"here: ({key} is not (a|None)|a network cannot be built if '{key}' is NaN)"):
        check_settings({"synthesis_kwargs": {key: value}}, "here", is_network=True)


def test_numbers_that_networks_can_have():
    for clamp in (None, 0, 256, 0.5, float("inf")):
        check_settings({"conv_clamp": clamp}, "here", is_network=True)
    for multiplier in (1e-9, 0.01, 1, 1e9):
        check_settings({"mapping_kwargs": {"lr_multiplier": multiplier}}, "here", is_network=True)


def test_settings_of_datasets():
    check_dataset_settings(DATASET, "a.pkl")
    check_dataset_settings({**DATASET, "resolution": None, "max_size": None}, "a.pkl")
    for seed in (0, (1 << 32) - 1):
        check_dataset_settings({**DATASET, "random_seed": seed}, "a.pkl")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"crop": 1}, "made with 'crop', which is unknown here"),
        ({"\x1b": 1}, r"made with '\x1b'"),
        ({"path": 3}, "path of its dataset is not text"),
        ({"max_size": 0}, "max_size of its dataset is not a positive integer or None"),
        ({"max_size": True}, "max_size"),
        ({"resolution": 64.0}, "resolution"),
        ({"use_labels": 1}, "use_labels of its dataset is not True or False"),
        ({"xflip": None}, "xflip"),
        ({"random_seed": -1}, "random_seed of its dataset is not an integer in 0..4294967295"),
        ({"random_seed": 1 << 32}, "random_seed"),
    ],
)
def test_settings_that_datasets_do_not_take(changes, said):
    with pytest.raises(UserError) as caught:
        check_dataset_settings({**DATASET, **changes}, "a.pkl")
    assert str(caught.value).startswith("a.pkl: ")
    assert said in str(caught.value)
    assert str(caught.value).endswith("give the images by --data")
