"""Two gloo processes compute the gradients of one process with the whole batch, where nothing is kept per process.

Without what differs by definition: random draws (each process has its own), batch normalization (Projected GAN and
FastGAN normalize each pass), LeCam's running means and APA's images (each process has its own), and several rounds
(InsGen's second round sees the keys of the first).
"""

import functools
from contextlib import ExitStack

import pytest
import torch

from baselines.insgen.discriminator import InsGenDiscriminator
from baselines.insgen.loss import InsGenLoss
from baselines.relativistic import RelativisticLoss
from baselines.san import SlicingAdversarial
from tests.unit.baselines.toy import CAPACITY, SIZE, assert_close, inputs, make_generator
from torch_utils import distributed
from torch_utils.distributed import init_world
from torch_utils.launch import launch

CPU = torch.device("cpu")
NUM_PROCESSES, BATCH = 2, 4

EXTENSIONS = {
    "insgen": [],
    "relativistic and san": [
        functools.partial(RelativisticLoss, batch_size=BATCH, loss="relativistic"),
        functools.partial(SlicingAdversarial, batch_size=BATCH, san=True),
    ],
}


def make_loss(extensions):
    """InsGen's loss without randomness, wrapped for the processes that there are; the same networks in each."""
    torch.manual_seed(0)
    G = make_generator().requires_grad_(False)
    D = InsGenDiscriminator(**SIZE, **CAPACITY, epilogue_kwargs={"mbstd_num_channels": 0}).requires_grad_(False)
    wrapped = (distributed.parallel(module, CPU) for module in (G.mapping, G.synthesis, D))
    settings = {"style_mixing_prob": 0, "pl_weight": 0, "r1_gamma": 1, "insgen_noise": 0, "rqs": 6, "fqs": 6}
    loss = InsGenLoss(CPU, *wrapped, **settings)
    for network in loss.networks().values():
        network.requires_grad_(False)
    loss.extensions = [make(loss) for make in extensions]
    return loss, {"G": G.synthesis, "D": torch.nn.ModuleList([D, *loss.trained_with("D")])}


def outcome(extensions, rank, num):
    """Gradients of two iterations by phase and parameter, and InsGen's queues after them."""
    loss, networks = make_loss(extensions)
    torch.manual_seed(1)
    arguments = inputs(BATCH)
    own = slice(rank * num, (rank + 1) * num)
    arguments = {name: value[own] if torch.is_tensor(value) else value for name, value in arguments.items()}
    found = {}
    for iteration in range(2):
        loss.begin_iteration()
        for phase in ("Gmain", "Dboth"):
            network = networks[phase[0]].requires_grad_(True)
            with ExitStack() as active:
                for extension in loss.extensions:
                    active.enter_context(extension.during(phase))
                loss.accumulate_gradients(phase=phase, **arguments)
            for name, parameter in network.named_parameters():
                found[f"{iteration} {phase} {name}"] = parameter.grad.clone()
                parameter.data -= 0.01 * parameter.grad
            network.requires_grad_(False).zero_grad(set_to_none=True)
    return {**found, **{name: head.queue for name, head in loss.head_of.items()}}


def run_rank(path, extensions, world, init_method):
    init_world(world.rank, world.world_size, CPU, init_method, timeout_sec=60)
    torch.set_num_threads(1)
    torch.save(outcome(extensions, world.rank, BATCH // NUM_PROCESSES), path / f"{world.rank}.pt")


@pytest.mark.slow
@pytest.mark.parametrize("extensions", EXTENSIONS.values(), ids=EXTENSIONS)
def test_two_processes_are_one(tmp_path, extensions):
    launch(functools.partial(run_rank, tmp_path, extensions), NUM_PROCESSES)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(NUM_PROCESSES))
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different, "the processes differ"
    expected = outcome(extensions, rank=0, num=BATCH)
    unused = [name for name, x in expected.items() if not x.any() and not name.endswith(".bias")]
    assert not unused, "nothing would be compared"
    assert_close(first, expected, tolerance=1e-5)
