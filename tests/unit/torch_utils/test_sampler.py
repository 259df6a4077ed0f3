import itertools
import json

import numpy as np
import pytest
import torch

from tests.helpers import golden_cases
from torch_utils.misc import InfiniteSampler

CASES = list(golden_cases("data", what="InfiniteSampler"))


def take(sampler, num):
    return list(itertools.islice(sampler, num))


@pytest.mark.parametrize(("arguments", "arrays"), CASES, ids=lambda case: case.get("key"))
def test_the_order_is_that_of_the_reference(arguments, arrays):
    names = ("rank", "num_replicas", "seed", "window_size")
    sampler = InfiniteSampler(range(arguments["n"]), **{name: arguments[name] for name in names})
    assert take(sampler, len(arrays["order"])) == arrays["order"].tolist()


def test_ranks_share_one_order():
    common = take(InfiniteSampler(range(10)), 60)
    for rank in range(3):
        assert take(InfiniteSampler(range(10), rank=rank, num_replicas=3), 20) == common[rank::3]


def test_without_shuffling_the_order_is_the_natural_one():
    assert take(InfiniteSampler(range(3), shuffle=False), 7) == [0, 1, 2, 0, 1, 2, 0]


def test_an_order_of_one():
    assert take(InfiniteSampler(range(1)), 3) == [0, 0, 0]


def test_iterators_do_not_disturb_each_other_or_the_sampler():
    sampler = InfiniteSampler(range(10))
    one, two = iter(sampler), iter(sampler)
    assert [next(one) for _ in range(25)] == [next(two) for _ in range(25)] == take(sampler, 25)


@pytest.mark.parametrize("num_consumed", [0, 6, 18, 300])
@pytest.mark.parametrize(("num_before", "num_after"), [(1, 1), (2, 2), (2, 3)])
def test_a_new_process_goes_on_where_the_images_were_consumed(num_consumed, num_before, num_after):
    dataset = range(13)
    straight = take(InfiniteSampler(dataset, seed=3), num_consumed + 60)
    sampler = InfiniteSampler(dataset, rank=1 % num_before, num_replicas=num_before, seed=3)
    take(sampler, 50)  # a DataLoader that reads ahead
    for _ in range(num_consumed // 6):
        sampler.advance(6)
    state = sampler.state_dict()
    sampler.advance(6)  # must not reach the state any more
    state = {key: torch.tensor(json.loads(json.dumps(torch.as_tensor(value).tolist()))) for key, value in state.items()}
    for rank in range(num_after):
        resumed = InfiniteSampler(dataset, rank=rank, num_replicas=num_after, seed=99)
        resumed.load_state_dict(state)
        assert take(resumed, 20) == straight[num_consumed + rank :: num_after][:20]


def drawn_one_by_one(num_items, seed, window_size, num):
    """The order as its definition says, and the state of the random numbers after it."""
    rng = np.random.RandomState(seed)
    items = np.arange(num_items)
    rng.shuffle(items)
    window = int(np.rint(num_items * window_size))
    order = []
    for position in range(num):
        here = position % num_items
        order.append(int(items[here]))
        if window >= 2:
            there = (here - rng.randint(window)) % num_items
            items[here], items[there] = items[there], items[here]
    return order, items, rng.get_state(legacy=False)["state"]


@pytest.mark.parametrize("window_size", [0, 0.2, 0.5, 1])
@pytest.mark.parametrize("num_items", [1, 2, 3, 7, 300, 1000])
def test_drawing_in_blocks_changes_nothing(num_items, window_size):
    order, items, rng_state = drawn_one_by_one(num_items, seed=5, window_size=window_size, num=1500)
    sampler = InfiniteSampler(range(num_items), seed=5, window_size=window_size)
    assert take(sampler, 1500) == order
    for num_images in (0, 1, 2, 511, 986):
        sampler.advance(num_images)
    state = sampler.state_dict()
    assert {key: np.asarray(value).tolist() for key, value in state.items()} == {
        "position": 1500,
        "items": items.tolist(),
        "rng_key": rng_state["key"].tolist(),
        "rng_pos": rng_state["pos"],
    }
    assert [state[key].dtype for key in ("items", "rng_key")] == [torch.int64] * 2


@pytest.mark.parametrize("num_replicas", [1, 3, 256, 257, 600])
def test_blocks_are_divided_among_any_number_of_processes(num_replicas):
    common = take(InfiniteSampler(range(50)), 3 * num_replicas)
    for rank in {0, 1 % num_replicas, num_replicas - 1}:
        assert take(InfiniteSampler(range(50), rank=rank, num_replicas=num_replicas), 3) == common[rank::num_replicas]


def test_a_data_loader_draws_in_this_order():
    loader = torch.utils.data.DataLoader(range(10), sampler=InfiniteSampler(range(10), seed=1), batch_size=4)
    batches = list(itertools.islice(loader, 3))
    assert torch.cat(batches).tolist() == take(InfiniteSampler(range(10), seed=1), 12)


def test_a_state_of_another_dataset_is_refused():
    with pytest.raises(ValueError, match="13 images, this one has 12"):
        InfiniteSampler(range(12)).load_state_dict(InfiniteSampler(range(13)).state_dict())


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"dataset": []}, "empty"),
        ({"rank": 2, "num_replicas": 2}, "rank is 2, expected 0 to num_replicas - 1 = 1"),
        ({"window_size": 1.5}, "window_size is 1.5"),
    ],
)
def test_bad_arguments(kwargs, words):
    with pytest.raises(ValueError, match=words):
        InfiniteSampler(**{"dataset": range(3), **kwargs})
