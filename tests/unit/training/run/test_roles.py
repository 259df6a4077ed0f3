import pytest

from dnnlib.errors import UserError
from training.run.dataset_info import DatasetInfo
from training.run.options import Flags, resolve
from training.run.registry import configurations
from training.run.roles import allowed_classes, check_class_names

DATASET = DatasetInfo("cats", 64, 500, has_labels=False)


def options(**flags):
    return resolve(Flags(data="cats.zip", **flags), DATASET)


@pytest.mark.parametrize("cfg", configurations())
def test_what_train_writes_is_allowed(cfg):
    check_class_names(options(cfg=cfg), "options", is_trusted=False)
    check_class_names(options(cfg=cfg, aug="noaug"), "options", is_trusted=False)


@pytest.mark.parametrize("role", allowed_classes())
@pytest.mark.parametrize(
    "settings",
    [{"class_name": "os.system", "command": "false"}, {"class_name": ["os.system"]}, {}, "os.system", 3, [1]],
)
@pytest.mark.parametrize("is_trusted", [False, True])
def test_other_classes_are_not(role, settings, is_trusted):
    if is_trusted and role == "training_set_kwargs":
        return
    with pytest.raises(UserError, match=rf"^options: {role} names the class .*, allowed: "):
        check_class_names({**options(), role: settings}, "options", is_trusted)


def test_a_dataset_of_the_users_own_needs_trust():
    kwargs = {**options(), "training_set_kwargs": {"class_name": "mine.Dataset"}}
    with pytest.raises(UserError, match=r"a dataset class of your own needs --trust-pickle$"):
        check_class_names(kwargs, "options", is_trusted=False)
    check_class_names(kwargs, "options", is_trusted=True)


def test_escape_sequences_do_not_reach_the_terminal():
    with pytest.raises(UserError) as caught:
        check_class_names({**options(), "G_kwargs": {"class_name": "\x1b[2J"}}, "options", is_trusted=False)
    assert str(caught.value).isprintable()
