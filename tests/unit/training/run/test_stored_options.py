import copy

import pytest
import torch

from dnnlib.errors import UserError
from training.run.dataset_info import DatasetInfo
from training.run.options import Flags, resolve
from training.run.stored_options import check_dataset_class, check_options


@pytest.fixture
def options():
    return resolve(Flags(data="cats.zip"), DatasetInfo("cats", 16, 8, False))


def check(options, path, value):
    edited = copy.deepcopy(options)
    target = edited
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    check_options(edited, "options.json")


def test_options_as_they_are_written(options):
    check_options(options, "options.json")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        *((([name]), 0, f"{name} is not an option of a run") for name in ("rank", "device", "run_dir", "abort_fn")),
        (["metrics"], ["\x1b[2J"], r"metrics contains control characters: '\\x1b\[2J'|'metrics' contains"),
        (["training_set_kwargs", "path"], "a\u202eb", "'path' contains control characters"),
        (["resume_pkl"], "a\nb", "'resume_pkl' contains control characters"),
        (["G_opt_kwargs", "lr"], float("nan"), "lr is nan, not a finite number"),
        (["loss_kwargs", "r1_gamma"], float("inf"), "r1_gamma is inf, not a finite number"),
        (["G_kwargs", "mapping_kwargs", "num_layers"], 100_000, "'num_layers' is 100000, at most 256"),
        (["G_kwargs", "z_dim"], 1 << 20, "z_dim of G_kwargs must be a whole number from 1 to 16384"),
        (["G_kwargs", "w_dim"], -1, "w_dim of G_kwargs must be a whole number from 1 to 16384"),
        (["G_kwargs", "z_dim"], float("1e3"), "z_dim of G_kwargs must be a whole number"),
        (
            ["random_seed"],
            2**70,
            "random_seed is 1180591620717411303424, but must be a non-negative number up to 4294967295",
        ),
        (["random_seed"], -1, "random_seed is -1, but must be a non-negative number"),
        (["total_kimg"], 10**90, r"total_kimg is 10+, but must be a non-negative number up to 1e\+15"),
        (["kimg_per_tick"], 1e300, r"kimg_per_tick is 1e\+300, but must be a positive number"),
        (["network_snapshot_ticks"], 2**70, "network_snapshot_ticks is 1180591620717411303424, but must be a positive"),
        (["image_snapshot_ticks"], -5, "image_snapshot_ticks is -5, but must be a positive number"),
        (["batch_size"], 2**40, "batch_size is 1099511627776, but must be a positive number up to 1048576"),
        (["batch_gpu"], 2**40, "batch_gpu is 1099511627776, but must be a positive number up to 1048576"),
        (["num_gpus"], 2**40, "num_gpus is 1099511627776, but must be a positive number up to 65536"),
        (["data_loader_kwargs", "num_workers"], 2**40, "'num_workers' of data_loader_kwargs is 1099511627776"),
        (["data_loader_kwargs", "num_workers"], -1, r"'num_workers' .* is -1, .* num_workers \(int from 0 to 65536\)"),
        (["data_loader_kwargs", "prefetch_factor"], 2000, r"prefetch_factor \(int from 1 to 1024\)"),
        (["augment_kwargs", "xflip"], 2**70, r"xflip is 1180591620717411303424, but numbers must be up to 1e\+15"),
        (["G_opt_kwargs", "lr"], -1e300, r"lr is -1e\+300, but numbers must be up to 1e\+15"),
        (["batch_gpu"], 1 << 20, "must be a multiple of num_gpus=1 times batch_gpu=1048576"),
        (["num_gpus"], 7, "must be a multiple of num_gpus=7 times batch_gpu"),
        (
            ["data_loader_kwargs", "num_workers"],
            0.5,
            "'num_workers' of data_loader_kwargs is 0.5, which cannot be used",
        ),
        (
            ["data_loader_kwargs", "num_workers"],
            True,
            "'num_workers' of data_loader_kwargs is True, which cannot be used",
        ),
        (["data_loader_kwargs", "timeout"], 1, "'timeout' of data_loader_kwargs is 1, which cannot be used"),
        (["training_set_kwargs", "max_size"], "8", "max_size of its dataset is not a positive integer"),
        (["augment_kwargs", "deep"], [[[[[[[[[[1]]]]]]]]]], "more than 1000 values, 8 levels"),
    ],
)
def test_options_that_were_edited(options, path, value, said):
    with pytest.raises(UserError, match=f"^options.json: .*({said})") as caught:
        check(options, path, value)
    assert str(caught.value).isprintable()


class Images(torch.utils.data.Dataset):
    """A dataset of one's own."""


def test_a_dataset_class_is_one_before_it_is_called():
    check_dataset_class(f"{__name__}.Images", "options.json")
    for name in ("os.system", "os", "torch.nn.Linear"):
        with pytest.raises(UserError, match=f"^options.json: '{name}' is not a dataset class"):
            check_dataset_class(name, "options.json")
