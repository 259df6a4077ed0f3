import errno
import itertools
import multiprocessing
import os
import signal
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from torch_utils import distributed
from torch_utils.misc import InfiniteSampler
from training.batches import Batches
from training.dataset import Dataset

CPU = torch.device("cpu")
NUM_IMAGES = 10
Z_DIM = 5


class Numbered(Dataset):
    """Image i is i everywhere; its label is i mod 3."""

    def __init__(self, broken=None):
        super().__init__("numbered", [NUM_IMAGES, 1, 4, 4], use_labels=True)
        self.broken = broken

    def _load_raw_image(self, raw_idx):
        if raw_idx == self.broken:
            raise UserError("numbered: too many images are damaged")
        return np.full([1, 4, 4], raw_idx, dtype=np.uint8)

    def _load_raw_labels(self):
        return np.arange(NUM_IMAGES, dtype=np.int64) % 3


class Failing(Numbered):
    """Images in a file that cannot be opened."""

    def __init__(self, number):
        super().__init__()
        self._number = number

    def _load_raw_image(self, raw_idx):
        raise OSError(self._number, os.strerror(self._number), "a")


class Survivor(Numbered):
    """Whoever loads an image has got all signals that ask a run to stop; image i is their number."""

    def _load_raw_image(self, raw_idx):
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
        for signum in signals:
            os.kill(os.getpid(), signum)
        return np.full([1, 4, 4], len(signals), dtype=np.uint8)


@pytest.fixture
def make():
    """Batches that are closed at the end."""
    made = []

    def make(dataset=None, batch_size=4, batch_gpu=2, rank=0, world_size=1, seed=7, num_workers=0):
        loader_kwargs = {"num_workers": num_workers}
        made.append(
            Batches(dataset or Numbered(), batch_size, batch_gpu, Z_DIM, rank, world_size, seed, CPU, loader_kwargs)
        )
        return made[-1]

    yield make
    for batches in made:
        batches.close()


def indices(batches, num_phases=1):
    """Which images the next batch holds."""
    rounds = batches.next(num_phases)[0]
    pixels = torch.cat([each.real_img for each in rounds])[:, 0, 0, 0]
    return ((pixels + 1) * 127.5).round().int().tolist()


def test_what_a_batch_holds(make):
    phases = make(batch_size=4, batch_gpu=2).next(num_phases=3)
    assert [len(rounds) for rounds in phases] == [2, 2, 2]
    for each in itertools.chain(*phases):
        assert (each.real_img.shape, each.real_img.dtype) == ((2, 1, 4, 4), torch.float32)
        assert (each.real_c.shape, each.gen_c.shape) == ((2, 3), (2, 3))
        assert each.gen_z.shape == (2, Z_DIM)
        assert torch.equal(each.gen_c.sum(1), torch.ones(2))


def test_images_are_between_minus_one_and_one_and_keep_their_labels(make):
    batches = make()
    for rounds in (batches.next(1)[0] for _ in range(5)):
        for each in rounds:
            index = ((each.real_img[:, 0, 0, 0] + 1) * 127.5).round()
            assert torch.equal(each.real_img, (index / 127.5 - 1)[:, None, None, None].expand(2, 1, 4, 4))
            assert torch.equal(each.real_c.argmax(1), index.long() % 3)


def test_phases_share_the_real_images_and_nothing_else(make):
    first, second = make(batch_size=8, batch_gpu=8).next(num_phases=2)
    assert torch.equal(first[0].real_img, second[0].real_img)
    assert torch.equal(first[0].real_c, second[0].real_c)
    assert not torch.equal(first[0].gen_z, second[0].gen_z)
    assert not torch.equal(first[0].gen_c, second[0].gen_c)


def test_generated_labels_are_drawn_from_the_dataset(make):
    batches = make()
    classes = torch.cat([batches.next(5)[i][j].gen_c for _ in range(100) for i in range(5) for j in range(2)]).mean(0)
    # Classes 0, 1, 2 have 4, 3, 3 images of 10; 2000 draws have a standard error of 0.011.
    assert torch.allclose(classes, torch.tensor([0.4, 0.3, 0.3]), atol=0.045)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_images_come_in_the_order_of_the_sampler(make, num_workers):
    expected = list(itertools.islice(InfiniteSampler(Numbered(), seed=7), 24))
    batches = make(num_workers=num_workers)
    assert [index for _ in range(6) for index in indices(batches)] == expected


def test_processes_share_one_order(make):
    expected = list(itertools.islice(InfiniteSampler(Numbered(), seed=7), 24))
    ranks = [make(batch_size=4, batch_gpu=1, rank=rank, world_size=2) for rank in range(2)]
    for start in range(0, 24, 4):
        assert [indices(batches) for batches in ranks] == [
            expected[start : start + 4 : 2],
            expected[start + 1 : start + 4 : 2],
        ]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_state_goes_on_with_what_was_not_consumed(make, num_workers):
    """What workers have read ahead does not count."""
    whole, before = make(num_workers=num_workers), make(num_workers=num_workers)
    expected = [indices(whole) for _ in range(9)]
    for _ in range(4):
        indices(before)
    after = make(num_workers=2 - num_workers)
    after.load_state_dict(before.state_dict())
    assert [indices(after) for _ in range(5)] == expected[4:]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_latents_do_not_depend_on_the_workers(make, num_workers):
    torch.manual_seed(3)
    expected = torch.randn([8, Z_DIM])
    torch.manual_seed(3)
    actual = [each.gen_z for rounds in make(num_workers=num_workers).next(2) for each in rounds]
    assert torch.equal(torch.cat(actual), expected)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_problem_with_the_data_is_one_line_wherever_it_is_met(make, num_workers):
    batches = make(Numbered(broken=3), num_workers=num_workers)
    with pytest.raises(UserError) as caught:
        [batches.next(1) for _ in range(NUM_IMAGES)]
    assert str(caught.value) == "numbered: too many images are damaged"


def test_images_that_another_process_cannot_load_end_this_one_where_it_was(make, monkeypatch):
    batches = make()
    batches.next(1)
    position, random_state = batches.state_dict()["position"], torch.get_rng_state()
    monkeypatch.setattr(distributed, "any_process", lambda flag: True)
    monkeypatch.setattr(distributed, "gather", lambda problem: [problem, "they are gone"])
    with pytest.raises(UserError, match=r"^they are gone$"):
        batches.next(1)
    assert batches.has_failed
    assert batches.state_dict()["position"] == position
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize(
    ("error", "said"),
    [(UserError("they are gone"), "they are gone"), (KeyError("x"), "KeyError: 'x'"), (ValueError(), "ValueError")],
)
def test_what_other_processes_say_of_a_problem(make, monkeypatch, error, said):
    def fail():
        raise error

    batches = make()
    told = []
    monkeypatch.setattr(batches, "_load_images", fail)
    monkeypatch.setattr(distributed, "gather", told.append)
    with pytest.raises(type(error)):
        batches.next(1)
    assert told == [said]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            RuntimeError("DataLoader worker (pid 5) is killed by signal: Killed.\nMore"),
            "a process that loads images has",
        ),
        (
            RuntimeError("Too many open files. Communication with the workers is no longer"),
            "may not open as many files",
        ),
        (RuntimeError("received 0 items of ancdata"), "may not open as many files"),
        (OSError(errno.EMFILE, "Too many open files"), "may not open as many files"),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "no more processes can be started"),
        (RuntimeError("can't start new thread"), "no more threads can be started"),
    ],
)
def test_lack_of_what_workers_need_is_one_line_with_the_way_out(make, monkeypatch, error, said):
    batches = make(num_workers=1)
    monkeypatch.setattr(type(batches._loader), "__iter__", Mock(side_effect=error))
    with pytest.raises(UserError, match=rf"^.*{said}.*: use --workers=0 \(.*\)$"):
        batches.next(1)


@pytest.mark.slow
def test_an_error_within_a_worker_keeps_its_cause(make):
    with pytest.raises(UserError, match=r"not open as many files.*\(OSError: \[Errno 24\] Too many open files: 'a'\)$"):
        make(Failing(errno.EMFILE), num_workers=1).next(1)
    with pytest.raises(PermissionError, match=r"DataLoader worker process 0(.|\n)*Permission denied: 'a'"):
        make(Failing(errno.EACCES), num_workers=1).next(1)


def test_without_workers_no_error_is_theirs(make):
    with pytest.raises(OSError, match=r"^\[Errno 24\] Too many open files: 'a'$"):
        make(Failing(errno.EMFILE)).next(1)


def test_other_errors_stay_what_they_are(make, monkeypatch):
    batches = make()

    def fail():
        raise RuntimeError("something else")
        yield

    monkeypatch.setattr(batches, "_loader", fail())
    with pytest.raises(RuntimeError, match=r"^something else$"):
        batches.next(1)


@pytest.mark.slow
def test_workers_leave_stopping_to_the_main_process(make):
    assert indices(make(Survivor(), num_workers=1)) == [5, 5, 5, 5]


def test_workers_end_with_the_process_whoever_holds_them(make):
    """At its end Python terminates them and waits; the traceback of an error may hold the iterator until then."""
    before = multiprocessing.active_children()  # of other tests
    batches = make(num_workers=1)
    batches.next(1)
    (worker,) = set(multiprocessing.active_children()).difference(before)
    holder = batches._iterator
    batches.close()
    worker.terminate()
    worker.join(timeout=10)
    assert worker.exitcode == 0
    del holder


def test_waiting_is_measured(make):
    batches = make()
    assert batches.wait_sec == 0
    batches.next(1)
    assert batches.wait_sec > 0
