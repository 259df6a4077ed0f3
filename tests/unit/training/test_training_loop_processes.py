"""What the processes of a run have of their own, and what they must have in common."""

import pytest

from tests.training_runs import make_trainer, tiny_options, write_dataset
from training import training_loop


@pytest.fixture
def options(tmp_path):
    return tiny_options(write_dataset(tmp_path / "data.zip"), 8, aug="ada")


class Seeded(BaseException):
    """Ends the construction of a trainer when its seed is known."""


def test_each_process_of_each_seed_draws_numbers_of_its_own(tmp_path, options, monkeypatch):
    seeds = []

    def seed_everything(seed):
        seeds.append(seed)
        raise Seeded

    monkeypatch.setattr(training_loop, "seed_everything", seed_everything)
    for random_seed in range(3):
        for rank in range(2):
            with pytest.raises(Seeded):
                make_trainer(tmp_path, {**options, "random_seed": random_seed, "num_gpus": 2, "rank": rank})
    assert seeds == list(range(6))


def test_networks_are_compared_before_they_are_saved(tmp_path, options, monkeypatch):
    """All but the average, which each process computes from what is compared."""
    trainer, compared = make_trainer(tmp_path, options), []
    monkeypatch.setattr(training_loop.misc, "check_ddp_consistency", lambda network, **_: compared.append(network))
    trainer._save_snapshot("network-snapshot-000000.pkl")
    trainer.outputs.close()
    assert compared == [trainer.state.G, trainer.state.D, trainer.state.augment_pipe]
