"""Two processes on the CPU; everything that does not have to fail is checked in one start of them."""

import functools
import io
import os
import signal
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from dnnlib.errors import UserError
from torch_utils import distributed, misc, training_stats
from torch_utils.distributed import World, init_world, launch, world_from_env

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


def run_checks(folder, world, init_method):
    init_world(world.rank, world.world_size, CPU, init_method, timeout_sec=60)
    results = {check.__name__: check(world) for check in (stats, consistency, ddp, parallel)}
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


MEETING = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("env", "world"),
    [
        ({}, None),
        ({"WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "0", **MEETING}, World(2, 4, 0)),
        ({"WORLD_SIZE": "4", "RANK": "2", **MEETING}, World(2, 4, 2)),
        ({"WORLD_SIZE": "1", "RANK": "0"}, World(0, 1, 0)),
    ],
)
def test_the_place_can_come_from_the_environment(monkeypatch, env, world):
    set_environment(monkeypatch, env)
    assert world_from_env() == world


@pytest.mark.parametrize(
    "env", [{"WORLD_SIZE": "2"}, {"WORLD_SIZE": "2", "RANK": "x"}, {"WORLD_SIZE": "2", "RANK": "2"}]
)
def test_a_broken_environment_is_one_clear_line(monkeypatch, env):
    set_environment(monkeypatch, env)
    with pytest.raises(UserError, match="RANK"):
        world_from_env()


@pytest.mark.parametrize("meeting", [{}, {"MASTER_ADDR": "a"}, {"MASTER_PORT": "1"}, {**MEETING, "MASTER_PORT": "x"}])
def test_several_processes_must_know_where_to_meet(monkeypatch, meeting):
    set_environment(monkeypatch, {"WORLD_SIZE": "2", "RANK": "0", **meeting})
    with pytest.raises(UserError, match=r"^WORLD_SIZE is 2, so MASTER_ADDR and MASTER_PORT must .* torchrun, or unset"):
        world_from_env()


def test_waiting_for_other_machines_is_told(monkeypatch):
    set_environment(monkeypatch, MEETING)
    waiting = distributed._describe_waiting(1, 2, "env://")
    assert waiting == "Process 1 of 2 is waiting for the others at 127.0.0.1:29500 ..."
    assert distributed._describe_waiting(1, 2, "file:///store") is None


def set_environment(monkeypatch, env):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", *MEETING):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)


def fail_on_rank1(how, world, _init_method):
    if world.rank == 0:
        time.sleep(60)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "path":
        raise UserError("no such file: caf\udce9.zip")  # of a name that is not UTF-8
    raise {"user": UserError, "bug": ZeroDivisionError}[how]("the cause")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ("user", UserError, "^the cause$"),
        ("path", UserError, "^no such file: caf\udce9.zip$"),
        ("bug", RuntimeError, r"^rank 1 of 2 failed: [\s\S]*ZeroDivisionError: the cause"),
        ("killed", RuntimeError, "^rank 1 of 2 failed: .*SIGKILL"),
    ],
)
def test_one_failure_ends_all_and_names_the_rank(monkeypatch, how, error, words):
    monkeypatch.setattr(distributed, "GRACE_SEC", 0.1)
    with pytest.raises(error, match=words):
        launch(functools.partial(fail_on_rank1, how), NUM_PROCESSES)


def test_the_end_of_another_process_is_told_from_other_errors(monkeypatch):
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:1953: Connection reset by peer.")
    assert not distributed.is_peer_lost(lost), "there is no other process"
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    assert distributed.is_peer_lost(lost)
    assert not distributed.is_peer_lost(RuntimeError("CUDA error"))
    assert not distributed.is_peer_lost(ConnectionResetError("Connection reset by peer")), "as of a network drive"


def test_started_processes_print_any_text(monkeypatch, tmp_path):
    terminal = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(terminal, encoding="ascii"))
    distributed._run_process(0, lambda world, init_method: print("f\u00fcnf", flush=True), 1, str(tmp_path))
    assert terminal.getvalue() == b"f\\xfcnf\n"


def wait_for_signals(folder, world, _init_method):
    got = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: got.set())
    Path(folder, f"ready{world.rank}").touch()
    if got.wait(60):
        Path(folder, f"stopped{world.rank}").touch()


def wait_unprepared(folder, world, _init_method):
    Path(folder, f"ready{world.rank}").touch()
    time.sleep(60)


@contextmanager
def signal_when_ready(folder, signum):
    """Send this process alone a signal when its children wait for one."""

    def send():
        while len(list(folder.glob("ready*"))) < NUM_PROCESSES:
            time.sleep(0.01)
        os.kill(os.getpid(), signum)

    thread = threading.Thread(target=send)
    thread.start()
    yield
    thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_every_process(tmp_path, signum):
    handlers = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    with signal_when_ready(tmp_path, signum):
        launch(functools.partial(wait_for_signals, tmp_path), NUM_PROCESSES)
    assert len(list(tmp_path.glob("stopped*"))) == NUM_PROCESSES
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == handlers


@pytest.mark.slow
def test_an_interrupt_ends_processes_that_do_not_handle_it(tmp_path):
    with signal_when_ready(tmp_path, signal.SIGINT), pytest.raises(KeyboardInterrupt):
        launch(functools.partial(wait_unprepared, tmp_path), NUM_PROCESSES)


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
