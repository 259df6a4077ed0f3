import functools
import json
from pathlib import Path
from unittest import mock

import pytest
import torch

from dnnlib.util import EasyDict
from metrics import metric_main
from torch_utils.distributed import init_world
from torch_utils.launch import launch
from training.run.evaluation import Evaluation

CPU = torch.device("cpu")


def level(opts):
    return {"level": 3.0}


def broken(opts):
    raise ZeroDivisionError("no images")


@pytest.fixture(autouse=True)
def metrics(monkeypatch):
    """Metrics that need no networks, beside the real ones."""
    monkeypatch.setattr(metric_main, "_metrics", dict(metric_main._metrics))
    metric_main.register_metric(level)
    metric_main.register_metric(broken)


def evaluation(run_dir, said=None, pretrained_D="unknown", **opts):
    defaults = {
        "metrics": ["level"],
        "metrics_ticks": None,
        "network_snapshot_ticks": 3,
        "detector_folder": None,
        "training_set_kwargs": {},
        "metric_set_kwargs": None,
        "object_detector": None,
        "progress": "none",
    }
    say = [].append if said is None else said.append
    return Evaluation(EasyDict({**defaults, **opts}), run_dir, CPU, say, pretrained_D)


def due_ticks(each, last=12):
    return [tick for tick in range(last + 1) if each.is_due(tick, is_done=tick == last)]


@pytest.mark.parametrize(
    ("opts", "ticks"),
    [
        ({}, [3, 6, 9, 12]),
        ({"metrics_ticks": 5}, [5, 10, 12]),
        ({"network_snapshot_ticks": None}, []),
        ({"network_snapshot_ticks": None, "metrics_ticks": 12}, [12]),
        ({"metrics": []}, []),
    ],
)
def test_cadence_without_tick_0(tmp_path, opts, ticks):
    assert due_ticks(evaluation(tmp_path, **opts)) == ticks


def test_a_run_that_ends_in_tick_0_is_not_scored(tmp_path):
    assert not evaluation(tmp_path).is_due(0, is_done=True)


def test_results_are_returned_and_written(tmp_path, capsys):
    values = evaluation(tmp_path).run(torch.nn.Identity(), tmp_path / "network-snapshot-000004.pkl")
    assert values == {"level": {"level": 3.0}}
    line = json.loads((tmp_path / "metric-level.jsonl").read_text())
    assert (line["results"], line["metric"], line["snapshot_pkl"]) == (
        {"level": 3.0},
        "level",
        "network-snapshot-000004.pkl",
    )
    assert capsys.readouterr().out == "level 3 (0s)\n"


def test_a_metric_that_fails_is_reported_and_left_out(tmp_path):
    said = []
    assert evaluation(tmp_path, said, metrics=["broken", "level"]).run(torch.nn.Identity(), None) == {
        "level": {"level": 3.0}
    }
    assert said == ["Metric broken failed: ZeroDivisionError: no images"]


def test_scores_against_other_images_with_the_detector_that_was_chosen(tmp_path):
    seen = []
    metric_main.register_metric(lambda opts: seen.append(opts) or {"seen": 1.0}, "seen")
    opts = {"metric_set_kwargs": {"path": "held-out"}, "object_detector": "scenes", "metrics": ["seen"]}
    evaluation(tmp_path, pretrained_D="Net (ImageNet)", **opts).run(torch.nn.Identity(), None)
    assert seen[0].dataset_kwargs == {"path": "held-out"}
    assert (seen[0].object_detector, seen[0].pretrained_D) == ("scenes", "Net (ImageNet)")


def test_results_that_cannot_be_written_are_reported(tmp_path, capsys):
    said = []
    assert evaluation(tmp_path / "absent", said).run(torch.nn.Identity(), None) == {"level": {"level": 3.0}}
    assert said == []
    assert "metric-level.jsonl cannot be written: No such file or directory" in capsys.readouterr().out


def test_a_metric_without_its_network_is_switched_off_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(
        metric_main, "missing_weights", lambda metrics, folder, *_: {"fid50k_full": f"put it in {folder}"}
    )
    said = []
    each = evaluation(tmp_path, said, metrics=["fid50k_full", "level"], detector_folder=str(Path("x")))
    assert each.metrics == ["level"]
    assert said == ["Metric fid50k_full is switched off: put it in x"]


def _evaluate_in_process(folder, world, init_method):
    """Rank 0 finds weights missing and knows a value; what rank 1 would say must not count."""
    init_world(world.rank, world.world_size, CPU, init_method)
    reasons = {"fid50k_full": "offline"} if world.rank == 0 else {"level": "not asked"}
    said, asked = [], []

    def missing_weights(metrics, *_):
        asked.append(metrics)
        return reasons

    with mock.patch.object(metric_main, "missing_weights", missing_weights):
        each = evaluation(folder, said, metrics=["fid50k_full", "level"])
    metric_main.register_metric(lambda opts: {"level": opts.rank + 3.0}, "level")
    G_ema = torch.nn.BatchNorm2d(1)
    G_ema.running_mean.fill_(world.rank + 1)
    values = each.run(G_ema, None)
    found = [each.metrics, said, len(asked), values, G_ema.running_mean.item()]
    (folder / f"rank{world.rank}.json").write_text(json.dumps(found))


@pytest.mark.slow
def test_rank_0_looks_for_weights_writes_results_and_tells_the_others(tmp_path):
    launch(functools.partial(_evaluate_in_process, tmp_path), 2)
    said = ["Metric fid50k_full is switched off: offline"]
    assert json.loads((tmp_path / "rank0.json").read_text()) == [["level"], said, 1, {"level": {"level": 3.0}}, 1.0]
    assert json.loads((tmp_path / "rank1.json").read_text()) == [["level"], said, 0, {"level": {"level": 3.0}}, 1.0]
    (line,) = (tmp_path / "metric-level.jsonl").read_text().splitlines()
    assert json.loads(line)["num_gpus"] == 2
