"""Manifests, and what is still to be done."""

import dataclasses
import json

import pytest

from comparison.jobs import (
    MANIFEST,
    find_run,
    is_done,
    missing_scores,
    object_detector,
    read_job,
    remove_leftovers,
    trained_kimg,
    write_job,
)
from comparison.plan import read_plan
from comparison.snapshots import scored_snapshots
from dnnlib.errors import UserError
from tests.unit.comparison.fake_runs import METRICS, make_job, score_line, write_comparison, write_run


@pytest.fixture
def folder(tmp_path):
    write_run(tmp_path / "stylegan2/seed0", [3.0, 2.0, 1.0], 1.0, 1.0, make_job())
    return tmp_path / "stylegan2/seed0"


def snapshots(folder, *names):
    for name in names:
        (folder / f"00000-scenes/network-snapshot-{name}.pkl").touch()


def test_a_manifest_comes_back(tmp_path):
    job = make_job()
    assert write_job(tmp_path / "a", job) == job == read_job(tmp_path / "a")


def test_length_and_metrics_grow(folder):
    job = write_job(folder, make_job(kimg=2, metrics=["b"], data="/moved.zip"))
    assert (job.kimg, job.metrics, job.data) == (3, [*METRICS, "b"], "/moved.zip")  # it has been trained for 3
    job = write_job(folder, make_job(kimg=5, metrics=[], last_metrics=["c"]))
    assert (job.kimg, job.metrics, job.last_metrics) == (5, [*METRICS, "b"], ["c"])


def test_a_length_that_the_run_has_not_reached_can_be_taken_back(folder):
    write_job(folder, make_job(kimg=2000))
    assert write_job(folder, make_job(kimg=4)).kimg == 4


def test_before_a_run_has_begun_everything_can_be_taken_back(tmp_path):
    write_job(tmp_path, make_job(kimg=2000, metrics=["mistaken"], flags=["--mistaken"]))
    assert write_job(tmp_path, make_job()) == make_job() == read_job(tmp_path)


def test_manifests_of_earlier_versions(tmp_path):
    write_job(tmp_path, make_job())
    content = json.loads((tmp_path / "job.json").read_bytes())
    del content["last_metrics"]
    (tmp_path / "job.json").write_text(json.dumps(content))
    assert read_job(tmp_path) == make_job()
    assert write_job(tmp_path, make_job(kimg=5)).kimg == 5


@pytest.mark.parametrize(
    "change",
    [{"flags": ["--cfg=stylegan2"]}, {"dataset": {}}, {"snapshot_kimg": 2}, {"score_flags": ["--seed=1"]}],
)
def test_other_settings_are_refused(folder, change):
    with pytest.raises(UserError, match=f"began with {next(iter(change))} .* choose another --outdir"):
        write_job(folder, make_job(**change))


def test_flags_of_scoring_can_change_until_something_is_scored(folder):
    for path in folder.glob("*/metric-*.jsonl"):
        path.unlink()
    assert write_job(folder, make_job(score_flags=["--seed=1"])).score_flags == ["--seed=1"]


@pytest.mark.parametrize("mean", ["x", None, float("inf"), 10**400, [3]])
def test_damaged_statistics_say_nothing_of_the_length(folder, mean):
    path = folder / "00000-scenes/stats.jsonl"
    path.write_text(path.read_text() + json.dumps({"Progress/kimg": {"mean": mean}, "Progress/tick": {"mean": mean}}))
    assert trained_kimg(folder / "00000-scenes") == pytest.approx(3.008)
    assert [path.name for path in scored_snapshots(folder / "00000-scenes")] == []


def changed(**changes) -> str:
    return json.dumps({**dataclasses.asdict(make_job()), **changes})


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{}", '{"method": 1, "other": 2}', "[" * 100_000),
        *(changed(kimg="3"), changed(metrics=None), changed(flags=[1]), changed(dataset={})),
        changed(dataset={"name": "a", "num_images": 1, "resolution": "32"}),
    ],
)
def test_damaged_manifests(tmp_path, content):
    (tmp_path / "job.json").write_text(content)
    with pytest.raises(UserError, match=r"job\.json cannot be read"):
        read_job(tmp_path)


def test_done_without_weights(folder):
    assert is_done(folder, make_job())
    assert not is_done(folder, make_job(kimg=4))


@pytest.mark.parametrize("missing", ["00000-scenes/exit_status.json", "00000-scenes/training_options.json"])
def test_not_done(folder, missing):
    (folder / missing).unlink()
    assert not is_done(folder, make_job())


@pytest.mark.parametrize("name", ["samples", "boxes"])
def test_missing_pictures_are_drawn_if_there_is_a_snapshot(folder, name):
    record = {**score_line("fd_tiny", 3, 1.0), "protocol": {"object_detector": "scenes"}}
    with open(folder / "00000-scenes/metric-fd_tiny.jsonl", "a") as file:
        file.write(json.dumps(record) + "\n")
    (folder / "boxes.json").touch()
    snapshots(folder, "000003")
    assert is_done(folder, make_job())
    (folder / f"{name}.json").unlink()
    assert not is_done(folder, make_job())
    (folder / "00000-scenes/network-snapshot-000003.pkl").unlink()
    assert is_done(folder, make_job())


def test_the_detector_of_the_object_metrics(folder):
    run_dir = folder / "00000-scenes"
    assert object_detector(run_dir, make_job()) is None
    record = {**score_line("fd_tiny", 3, 1.0), "protocol": {"object_detector": "scenes"}}
    (run_dir / "metric-okd_tiny_car.jsonl").write_text(json.dumps(record) + "\n")
    assert object_detector(run_dir, make_job()) == "scenes"
    assert object_detector(run_dir, make_job(score_flags=["--object-detector=a/b.onnx"])) == "a/b.onnx"


def test_flags_of_scores_are_one_word_or_two():
    job = make_job(score_flags=["--device=cpu", "--detectors", "/w", "--device", "mps"])
    assert [job.score_flag(name) for name in ("device", "detectors", "object-detector")] == ["mps", "/w", None]


def test_missing_scores(folder):
    snapshots(folder, "000000", "000000_896", "000001", "000002", "000003")
    assert not list(missing_scores(folder / "00000-scenes", make_job()))
    path = folder / "00000-scenes/metric-fd_tiny.jsonl"
    path.write_text(json.dumps(score_line("fd_tiny", 2, 1.0)) + "\n")
    found = [(path.name[-10:-4], metrics) for path, metrics in missing_scores(folder / "00000-scenes", make_job())]
    assert found == [("000003", ["fd_tiny"]), ("000001", ["fd_tiny"])]


def test_metrics_of_the_last_snapshot_alone(folder):
    snapshots(folder, "000001", "000002", "000003")
    job = make_job(metrics=["fd_tiny"], last_metrics=["okd_tiny_car", "new"])
    found = [(path.name[-10:-4], metrics) for path, metrics in missing_scores(folder / "00000-scenes", job)]
    assert found == [("000003", ["new"])]
    assert job.all_metrics == ["fd_tiny", "okd_tiny_car", "new"]
    assert not is_done(folder, job)


def test_leftovers_of_a_process_killed_at_once(folder):
    (folder / "00001-scenes").mkdir()
    (folder / "00002-trained").mkdir()
    (folder / "00002-trained/stats.jsonl").write_text("{}\n{}\n")
    (folder / "00003-scenes").mkdir()
    (folder / "00003-scenes/.training_options.json.abc.tmp").touch()
    (folder / "2026-notes").mkdir()
    (folder / "00004-mine/.notes").mkdir(parents=True)
    assert find_run(folder).name == "00000-scenes"
    remove_leftovers(folder)
    kept = {path.name for path in folder.glob("[02]*")}
    assert kept == {"00000-scenes", "00002-trained", "2026-notes", "00004-mine"}


def test_plans_come_back(tmp_path):
    plan = read_plan(write_comparison(tmp_path))
    assert [method.label for method in plan.methods] == ["stylegan2", "msconD+con-weight=0.1"]
    assert [job.seed for job in plan.of(plan.methods[1]).values()] == [0, 1]
    assert plan.metrics == METRICS


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"cfgs": ["stylegan2"], "folders": ["../../etc"]}',
        '{"cfgs": 1, "folders": []}',
        '{"cfgs": [1], "folders": []}',
        '{"cfgs": ["nonsense"], "folders": []}',
    ],
)
def test_damaged_plans(tmp_path, content):
    (tmp_path / "comparison.json").write_text(content)
    with pytest.raises(UserError, match=r"comparison\.json cannot be read"):
        read_plan(tmp_path)


@pytest.mark.parametrize("named", [{"cfgs": []}, {"folders": ["stylegan2/seed0"]}])
def test_plans_without_runs(tmp_path, named):
    path = write_comparison(tmp_path) / "comparison.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **named}))
    with pytest.raises(UserError, match=r"comparison\.json names no runs, or none of one of its methods"):
        read_plan(tmp_path)


def test_manifests_with_relative_paths_are_those_of_the_same_run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "my.pkl").touch()
    job = make_job(flags=["--cfg=stylegan2", "--resume=my.pkl"])
    (folder / MANIFEST).write_text(json.dumps(dataclasses.asdict(job)))
    absolute = dataclasses.replace(job, flags=["--cfg=stylegan2", f"--resume={folder / 'my.pkl'}"])
    assert write_job(folder, absolute) == absolute
