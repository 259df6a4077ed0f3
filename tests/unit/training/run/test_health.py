import pytest

from torch_utils import training_stats
from training.run import health


def warnings(reports):
    collector = training_stats.Collector()
    for name, value in reports.items():
        training_stats.report(name, value)
    collector.update()
    return list(health.warnings(collector))


def test_nothing_to_say():
    assert warnings({"Health/nonfinite_grads/Gmain": [0, 0], "Loss/D/loss": 3}) == []


@pytest.mark.parametrize("counts", [[7], [0, 14]])
def test_divergence(counts):
    (line,) = warnings({"Health/nonfinite_grads/Gmain": counts, "Health/nonfinite_grads/Dmain": 0})
    assert line.startswith("Warning: training diverges: 7 gradient values per step of phase Gmain were not finite")
