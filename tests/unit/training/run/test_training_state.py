import pytest
import torch

from tests.training_runs import tiny_options
from torch_utils import distributed
from training.extensions import Extension
from training.run.settings import TrainingSettings
from training.run.training_state import TrainingState


class WithNetwork(Extension):
    """Has a network, trained with D."""

    def __init__(self, extended_loss, batch_size):
        super().__init__(extended_loss, batch_size)
        self.network = torch.nn.BatchNorm1d(2)

    def networks(self):
        return {"own": self.network}

    def trained_with(self, network):
        return [self.network] if network == "D" else []


@pytest.fixture
def construct(tmp_path, data):
    def construct():
        options = tiny_options(data, 8, aug="ada")
        options["extension_kwargs"] = [{"class_name": f"{__name__}.WithNetwork"}]
        settings = TrainingSettings(run_dir=str(tmp_path), progress="none", **options)
        return TrainingState(settings, torch.device("cpu"), lambda line: None)

    return construct


def test_every_process_begins_with_the_weights_of_rank_0(construct, monkeypatch):
    """Those are all 1 here; also the networks that no gradients keep together, such as the average of G."""

    def receive(tensors):
        for tensor in tensors:
            tensor.detach().fill_(1)

    monkeypatch.setattr(distributed, "broadcast_", receive)
    networks = construct().networks()
    assert list(networks) == ["G", "D", "G_ema", "augment_pipe", "own"]
    for network in networks.values():
        assert all((tensor == 1).all() for tensor in network.state_dict().values())


def test_names_in_checkpoints(construct):
    """Both phases of a network have one optimizer, which is called by the first."""
    state = construct()
    stateful = state.stateful()
    networks = [f"modules/{name}" for name in ("G", "D", "G_ema", "augment_pipe", "own")]
    others = ["batches", "ranks/loss", "ranks/WithNetwork", "ranks/ada"]
    assert sorted(stateful) == sorted([*networks, "optimizers/Gmain", "optimizers/Dmain", *others])
    optimizers = [state.phases[i].optimizer for i in (0, 2)]
    assert [stateful["optimizers/Gmain"], stateful["optimizers/Dmain"]] == optimizers


def test_the_average_begins_as_the_generator(construct):
    state = construct()
    assert (state.G.training, state.D.training, state.G_ema.training) == (True, True, False)
    averages = state.G_ema.state_dict()
    assert all(torch.equal(tensor, averages[name]) for name, tensor in state.G.state_dict().items())
    assert not any(parameter.requires_grad for parameter in state.G_ema.parameters())
