"""A checkpoint holds everything that the next iteration depends on."""

import functools
import random
from unittest import mock

import numpy as np
import pytest
import torch

from tests.training_runs import (
    everything_random,
    make_trainer,
    signal_in_iteration,
    states,
    tiny_options,
    write_dataset,
)
from training import checkpoint
from training.dataset import Dataset

CASES = {
    "stylegan2": everything_random(),
    "msconD": everything_random(cfg="msconD", settings={"scales": [1, 8], "con_ramp_kimg": 1.0}),
}

LEFT_OUT = {"settings", "console", "outputs", "evaluation", "watch", "_listens"}
"""Attributes that hold options, open files, and what is remembered of a regular expression."""

DERIVED = {
    "from the options": """state.phases.interval state.phases.optimizer.param_groups.betas state.phases._frees_memory
        state.loss.style_mixing_prob state.loss.r1_gamma
        state.loss.pl_batch_shrink state.loss.pl_decay state.loss.pl_weight
        state.ada._target state.ada._interval state.ada._step state.ada._max_p
        state.batches._batch_size state.batches._batch_gpu state.batches._share state.batches._z_dim
        stats._keep_previous state.ada._signs._keep_previous
        state.batches._sampler._rank state.batches._sampler._num_replicas state.batches._sampler._order.window
        length._settings state._settings watch._stop_on""",
    "from the options of msconD": """state.loss.settings state.loss.adv_weights state.loss.con_scale_weights
        state.loss.views.recolor..p state.loss.views.recolor..Hz_geom state.loss.views.recolor..Hz_fbank""",
    "from the dataset": "samples.size samples.real_img _dataset_record",
    "errors of this session": "state.batches.has_failed",
    "clocks": """start_sec last_checkpoint_sec state.batches.wait_sec length._is_time_up
        state.phases.stopwatch._is_cuda state.phases.stopwatch._used state.phases.stopwatch._times""",
}
"""Numbers and tensors of a trainer that need not be in a state, and why."""

NUMBERS = (bool, int, float, np.number)
OWN_PACKAGES = {"training", "torch_utils", "msconD"}


def leaves(value, path, seen, set_value=None):
    """Yield (path, value, function that replaces it or None) of all numbers, tensors and generators in ``value``."""
    if isinstance(value, NUMBERS):
        yield path, value, set_value
        return
    if id(value) in seen or isinstance(value, Dataset):
        return
    seen[id(value)] = value
    if isinstance(value, (torch.Tensor, np.ndarray, np.random.RandomState)):
        yield path, value, set_value
    elif isinstance(value, torch.nn.Module):
        tensors = [
            (name, each)
            for module_name, module in value.named_modules()
            for name, each in own_tensors(module, module_name)
        ]
        for name, tensor in tensors:
            yield from leaves(tensor, f"{path}.{name}", seen)
    elif isinstance(value, torch.optim.Optimizer):
        yield from leaves({"state": value.state, "param_groups": value.param_groups}, path, seen)
    elif isinstance(value, dict):
        for key, each in value.items():
            name = "" if isinstance(key, torch.Tensor) else f".{key}"
            yield from leaves(each, path + name, seen, functools.partial(value.__setitem__, key))
    elif isinstance(value, (list, tuple)):
        for i, each in enumerate(value):
            yield from leaves(
                each, path, seen, functools.partial(value.__setitem__, i) if isinstance(value, list) else None
            )
    elif type(value).__module__.split(".")[0] in OWN_PACKAGES and hasattr(value, "__dict__"):
        for name, each in vars(value).items():
            if name not in LEFT_OUT:
                yield from leaves(each, f"{path}.{name}", seen, functools.partial(setattr, value, name))


def own_tensors(module, prefix):
    """Parameters, buffers (also those that are not in the state_dict) and plain tensors of one module."""
    for held in (module._parameters, module._buffers, vars(module)):
        yield from ((f"{prefix}.{name}", value) for name, value in held.items() if isinstance(value, torch.Tensor))


def frozen(value):
    """A copy that can be compared."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, np.random.RandomState):
        return value.get_state()[1:]
    return np.array(value)


def is_equal(value, other):
    if isinstance(value, torch.Tensor):
        return isinstance(other, torch.Tensor) and value.dtype == other.dtype and torch.equal(value, other)
    if isinstance(value, tuple):
        return all(map(np.array_equal, value, other))
    return np.array_equal(value, other, equal_nan=value.dtype.kind == "f")


def collect(trainer):
    """Path -> values; the same path in a list has several."""
    found = {}
    for path, value, _set_value in leaves(trainer, "", {}):
        found.setdefault(path.lstrip("."), []).append(frozen(value))
    return found


@torch.no_grad()
def spoil(trainer):
    """Change everything; returns the paths where that is not possible."""
    fixed = set()
    for path, value, set_value in list(leaves(trainer, "", {})):
        if isinstance(value, torch.Tensor):
            value.copy_(~value if value.dtype == torch.bool else value + 1)
        elif isinstance(value, np.ndarray):
            value += 1
        elif isinstance(value, np.random.RandomState):
            value.seed(123)
        else:
            try:
                set_value(not value if isinstance(value, bool) else value + 1)
            except (AttributeError, TypeError):  # in a tuple or in a frozen object
                fixed.add(path.lstrip("."))
    return fixed


def not_restored(trainer, restored, fixed_paths):
    """Paths at which two trainers differ, or where nothing shows that they would otherwise."""
    expected, actual = collect(trainer), collect(restored)
    different = {
        path
        for path in expected.keys() | actual.keys()
        if len(expected.get(path, [])) != len(actual.get(path, []))
        or not all(map(is_equal, expected[path], actual[path]))
    }
    return different | (fixed_paths & expected.keys())


def draw():
    return [random.random(), np.random.randn(3).tolist(), torch.randn(3).tolist()]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "data.zip")


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def stopped(request, data, tmp_path):
    """A trainer that was stopped in the middle of a tick, its options, and numbers of the generators."""
    options = tiny_options(data, 100, **request.param)
    trainer = make_trainer(tmp_path / "stopped", options)
    with signal_in_iteration(6):
        assert not trainer.run()
    assert states(trainer.run_dir)[-1].stem.endswith("24")
    return trainer, options, draw()


@pytest.fixture
def restored(stopped, tmp_path):
    """Another trainer with these options, in which nothing has happened."""
    _trainer, options, _numbers = stopped
    trainer = make_trainer(tmp_path / "new", options)
    yield trainer
    trainer.outputs.close()


def spoil_and_restore(restored, run_dir):
    fixed_paths = spoil(restored)
    restored.run_dir = run_dir
    restored._restore()
    return fixed_paths


def test_state_covers_everything(stopped, restored):
    trainer, _options, numbers = stopped
    fixed_paths = spoil_and_restore(restored, trainer.run_dir)
    assert draw() == numbers
    derived = tuple(f"{path}." for path in " ".join(DERIVED.values()).split())
    assert not [path for path in not_restored(trainer, restored, fixed_paths) if not f"{path}.".startswith(derived)]


def test_a_value_that_is_forgotten_is_noticed(stopped, restored):
    """The test above can fail: numbers, tensors, also in the hands of others."""
    trainer, _options, _numbers = stopped
    for each in (trainer, restored):
        each.state.loss.num_calls = 3
        each.state.ada.memory = {"last": [torch.zeros(2)]}
        each.state.G.synthesis.hidden = torch.zeros(2)
    fixed_paths = spoil_and_restore(restored, trainer.run_dir)
    forgotten = not_restored(trainer, restored, fixed_paths)
    assert forgotten >= {"state.loss.num_calls", "state.ada.memory.last", "state.G.synthesis.hidden"}


def test_what_processes_exchange_lies_on_the_cpu(stopped, monkeypatch):
    """A pickled CUDA tensor would take memory on the device of its owner, or fail where that does not exist."""
    trainer, _options, _numbers = stopped
    tensor = mock.create_autospec(torch.Tensor, instance=True)
    monkeypatch.setattr(trainer.state.loss, "state_dict", lambda: {"x": tensor})
    assert checkpoint.collect(trainer.stateful())["ranks"][0]["loss"] == {"x": tensor.cpu.return_value}
