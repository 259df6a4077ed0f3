"""Two processes on the CPU; everything that does not have to fail is checked in one start of them."""

import functools
import tempfile
import time
from pathlib import Path

import pytest
import torch

from torch_utils import distributed, misc, training_stats
from torch_utils.distributed import init_world
from torch_utils.launch import World, launch

NUM_PROCESSES = 2
CPU = torch.device("cpu")


def consistency_error(module, **kwargs):
    try:
        misc.check_ddp_consistency(module, **kwargs)
    except RuntimeError as err:
        return str(err)
    return None


def stats(world):
    training_stats.init_multiprocessing(world.rank, CPU)
    collector = training_stats.Collector()
    # Different orders on purpose: only the set of names has to agree.
    for name in ("a", "b") if world.rank == 0 else ("b", "a"):
        training_stats.report(name, [world.rank + ord(name)] * (world.rank + 1))
    training_stats.report0("zero", world.rank + 5)
    training_stats.report("empty", [7] if world.rank == 1 else [])
    collector.update()
    first = collector.as_dict()
    collector.update()
    return {"first": first, "second": collector.as_dict()}


def consistency(world):
    module = torch.nn.BatchNorm1d(2)
    module.running_mean[0] = float("nan")
    results = {"equal": consistency_error(module)}
    module.weight.data[1] += 0.5 * world.rank
    module.bias.data[1] += 0.25 * world.rank
    results["drift"] = consistency_error(module)
    results["ignored"] = consistency_error(module, ignore_regex=r"BatchNorm1d\.(weight|bias)")
    if world.rank == 1:
        module.running_mean[:] = float("nan")
    results["nan"] = consistency_error(module, ignore_regex=r".*\.(weight|bias)")
    return results


def ddp(world):
    module = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1, 1, bias=False))
    grads = []
    for sync in (False, True):
        with misc.ddp_sync(module, sync):
            module(torch.full([1, 1], world.rank + 1.0)).backward()
        grads.append(float(module.module.weight.grad))
    return grads


def parallel(world):
    """Gradients, whether they lie in one piece of memory for the exchange, and what requires them."""
    module = torch.nn.Linear(2, 1).requires_grad_(False)
    torch.nn.init.ones_(module.weight)
    wrapped = distributed.parallel(module, CPU)
    assert distributed.unwrapped(wrapped) is distributed.unwrapped(module) is module
    requires_grad = module.weight.requires_grad
    module.requires_grad_(True)
    wrapped(torch.full([1, 2], world.rank + 1.0)).sum().backward()
    gradients = [module.weight.grad, module.bias.grad]
    storages = {gradient.untyped_storage().data_ptr() for gradient in gradients}
    return [gradient.tolist() for gradient in gradients], len(storages), requires_grad


def exchanges(world):
    """What arrives here of everything that processes exchange."""
    own = (torch.arange(6.0).reshape(2, 3) + 10 * world.rank).T  # not contiguous
    total, flags = torch.tensor([1.0, world.rank + 1.0]), [world.rank == 0, world.rank == 1, False]
    distributed.sum_(total)
    received = [torch.full([2], world.rank + 5.0), torch.tensor(world.rank)]
    distributed.broadcast_(received)
    return {
        "place": (distributed.rank(), distributed.world_size()),
        "gathered": distributed.gather({"rank": world.rank}),
        "tensors": [each.tolist() for each in distributed.gather_tensors(own)],
        "total": total.tolist(),
        "received": [each.tolist() for each in received],
        "object": distributed.from_rank0(f"of {world.rank}"),
        "any": [distributed.any_process(flag) for flag in flags],
    }


def run_checks(folder, world, init_method):
    init_world(world.rank, world.world_size, CPU, init_method, timeout_sec=60)
    results = {check.__name__: check(world) for check in (stats, consistency, ddp, parallel, exchanges)}
    results["world"] = (world.rank, world.world_size, world.local_rank)
    torch.save(results, Path(folder) / f"{world.rank}.pt")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a folder of %20 characters")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))  # where the processes meet
        launch(functools.partial(run_checks, folder), NUM_PROCESSES)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(NUM_PROCESSES)]


def test_each_process_knows_its_place(results):
    assert [result["world"] for result in results] == [(0, 2, 0), (1, 2, 1)]


def test_statistics_are_summed_over_processes(results):
    for result in results:
        first, second = result["stats"]["first"], result["stats"]["second"]
        assert list(first) == ["a", "b", "empty", "zero"]
        for name in ("a", "b"):
            assert (first[name].num, first[name].mean) == (3, pytest.approx(ord(name) + 2 / 3))
            assert first[name].std == pytest.approx((2 / 9) ** 0.5)
        assert (first.zero.num, first.zero.mean) == (1, 5)
        assert (first["empty"].num, first["empty"].mean) == (1, 7)
        assert second == first


def test_inconsistent_processes_all_say_what_differs_and_how(results):
    for result in results:
        messages = result["consistency"]
        assert messages["equal"] is None
        assert messages["ignored"] is None
        drift = "on rank 1 'BatchNorm1d.weight' drifts from rank 0 by up to 0.5 (2 tensors differ)"
        assert messages["drift"].endswith(drift)
        assert "on rank 1 'BatchNorm1d.running_mean' has 2 NaN where rank 0 has 1" in messages["nan"]


def test_what_processes_exchange(results):
    expected = {
        "gathered": [{"rank": 0}, {"rank": 1}],
        "tensors": [[[0, 3], [1, 4], [2, 5]], [[10, 13], [11, 14], [12, 15]]],
        "total": [2, 3],
        "received": [[5, 5], 0],
        "object": "of 0",
        "any": [True, True, False],
    }
    assert [result["exchanges"] for result in results] == [{"place": (rank, 2), **expected} for rank in range(2)]


def test_one_process_exchanges_nothing():
    x = torch.tensor([1.0])
    distributed.sum_(x)
    distributed.broadcast_([x])
    assert (x, distributed.rank(), distributed.world_size()) == (1, 0, 1)
    assert [distributed.gather("a"), distributed.gather_tensors(x), distributed.from_rank0("a")] == [["a"], [x], "a"]
    assert [distributed.any_process(flag) for flag in (False, True)] == [False, True]


def test_parallel_modules_exchange_gradients_without_copies(results):
    assert all(result["parallel"] == ([[[1.5, 1.5]], [1.0]], 1, False) for result in results)


def test_ddp_sync_averages_only_when_asked(results):
    # First d(w * x)/dw = rank + 1 stays local; then the accumulated 2 * (rank + 1) is averaged.
    assert [result["ddp"] for result in results] == [[1, 3], [2, 3]]


def test_one_process_needs_no_start_and_no_group():
    seen = []
    launch(lambda world, init_method: seen.append((world, init_method)), 1)
    assert seen == [(World(0, 1, 0), "")]
    init_world(0, 1, CPU)
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("has_nccl", "backend", "device_id"),
    [(True, "cpu:gloo,cuda:nccl", torch.device("cuda", 1)), (False, "gloo", None)],
)
def test_cuda_processes_exchange_objects_without_their_devices(monkeypatch, has_nccl, backend, device_id):
    calls = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: calls.append(device))
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: has_nccl)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda **kwargs: calls.append(kwargs))
    monkeypatch.setattr(torch.distributed, "new_group", lambda **kwargs: calls.append(kwargs))
    init_world(1, 2, torch.device("cuda", 1), "file:///store")
    device, kwargs, of_objects = calls
    assert of_objects["backend"] == "gloo"
    assert device == torch.device("cuda", 1)  # before anything is sent: NCCL wants one device per process
    assert (kwargs["backend"], kwargs["device_id"]) == (backend, device_id)


def test_waiting_for_other_machines_is_told(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    waiting = distributed._describe_waiting(1, 2, "env://")
    assert waiting == "Process 1 of 2 is waiting for the others at 127.0.0.1:29500 ..."
    assert distributed._describe_waiting(1, 2, "file:///store") is None


def test_the_end_of_another_process_is_told_from_other_errors(monkeypatch):
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:1953: Connection reset by peer.")
    assert not distributed.is_peer_lost(lost), "there is no other process"
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    assert distributed.is_peer_lost(lost)
    assert not distributed.is_peer_lost(RuntimeError("CUDA error"))
    assert not distributed.is_peer_lost(ConnectionResetError("Connection reset by peer")), "as of a network drive"


def work_alone_for_longer_than_exchanges_may_take(folder, world, init_method):
    init_world(world.rank, world.world_size, torch.device("cpu"), init_method, timeout_sec=1)
    with distributed.rank0_first():
        if world.rank == 0:
            time.sleep(2)
    if world.rank == 0:
        time.sleep(2)
    Path(folder, f"rank{world.rank}").write_text(distributed.from_rank0(f"of rank {world.rank}"))


@pytest.mark.slow
def test_processes_wait_while_rank_0_prepares(tmp_path):
    launch(functools.partial(work_alone_for_longer_than_exchanges_may_take, tmp_path), NUM_PROCESSES)
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["of rank 0"] * NUM_PROCESSES
