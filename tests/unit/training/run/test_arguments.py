import copy
import json

import pytest

from dnnlib.errors import UserError
from training.run.arguments import check_argument_types, check_constructors
from training.run.dataset_info import DatasetInfo
from training.run.options import Flags, resolve
from training.run.registry import augmentations, configurations

IN_USE = {"lecam": 0.5, "apa": True, "san": False}


def stored(**flags):
    kwargs = resolve(Flags(data="cats.zip", **flags), DatasetInfo("cats", 64, 8, True))
    return json.loads(json.dumps(kwargs))


class Foreign:
    """A dataset of another project: one type is known to type checkers only."""

    def __init__(self, path: "NotImported", size: int):  # noqa: F821
        pass


class Old:
    """As annotations were once allowed."""

    def __init__(self, size: int = None):  # noqa: RUF013
        pass


@pytest.mark.parametrize(
    "settings", [{"class_name": f"{__name__}.Foreign", "size": "x"}, {"class_name": f"{__name__}.Old", "size": None}]
)
def test_classes_of_other_projects(settings):
    check_argument_types({**stored(), "training_set_kwargs": settings}, "options.json")


@pytest.mark.parametrize("cfg", configurations())
def test_options_as_they_are_written(cfg):
    for aug in ("ada", *augmentations()):
        check_argument_types(stored(cfg=cfg, aug=aug, settings=IN_USE), "options.json")


@pytest.mark.parametrize(
    ("path", "value", "allowed"),
    [
        ("G_opt_kwargs.lr", "0.002", "a number"),
        ("D_opt_kwargs.eps", None, "a number"),
        ("D_opt_kwargs.betas", 0.9, "a list [a number, a number]"),
        ("G_kwargs.mapping_kwargs", None, "an object in braces"),
        ("G_kwargs.mapping_kwargs.num_layers", "8", "a whole number"),
        ("G_kwargs.synthesis_kwargs.channel_base", "big", "a whole number"),
        ("G_kwargs.synthesis_kwargs.conv_clamp", "256", "a number or null"),
        ("G_kwargs.synthesis_kwargs.use_noise", "no", "true or false"),
        ("D_kwargs.channel_max", [512], "a whole number"),
        ("D_kwargs.block_kwargs.freeze_layers", "1", "a whole number"),
        ("D_kwargs.epilogue_kwargs.mbstd_group_size", "4", "a whole number or null"),
        ("D_kwargs.proj_dim", "64", "a whole number"),
        ("loss_kwargs.r1_gamma", "10", "a number"),
        ("loss_kwargs.con_weight", "1", "a number"),
        ("augment_kwargs.hue", "x", "a number"),
        ("training_set_kwargs.xflip", 1, "true or false"),
        ("extension_kwargs.lecam", "0.5", "a number"),
    ],
)
def test_the_key_of_a_wrong_value_is_named(path, value, allowed):
    edited = copy.deepcopy(stored(cfg="msconD", settings=IN_USE))
    role, *between, key = path.split(".")
    target = edited[role][0] if role == "extension_kwargs" else edited[role]
    for name in between:
        target = target[name]
    target[key] = value
    with pytest.raises(UserError) as caught:
        check_argument_types(edited, "options.json")
    assert str(caught.value) == f"options.json: {path} is {json.dumps(value)}, allowed: {allowed}"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("G_opt_kwargs.lr", -1, "Invalid learning rate: -1"),
        ("D_opt_kwargs.betas", [2, 2], "Invalid beta parameter at index 0: 2"),
        ("D_opt_kwargs.eps", -1, "Invalid epsilon value: -1"),
        ("augment_kwargs.xflip", -1, "AugmentPipe: xflip must be a number >= 0, got -1"),
    ],
)
def test_values_that_make_no_sense(path, value, said):
    kwargs = stored(aug="ada")
    check_constructors(kwargs, "options.json")
    role, name = path.split(".")
    kwargs[role][name] = value
    with pytest.raises(UserError, match=f"^options.json: {role} cannot be used: {said}"):
        check_constructors(kwargs, "options.json")
