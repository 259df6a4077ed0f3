"""Results of metrics: written to a run folder, told in a line, and read again."""

import io
import json
import subprocess
import sys

import pytest

from metrics.results import (
    Record,
    read_results,
    read_snapshot_results,
    report_metric,
    results_file,
    results_files,
    summary,
)
from tests.helpers import REPOSITORY

RESULT = {
    "results": {"two_values_a": 0.5, "two_values_b": 2.0},
    "metric": "two_values",
    "total_time": 0.1,
    "total_time_str": "0s",
    "num_gpus": 1,
    "protocol": {"seed": 3},
}


def test_report_appends_a_line_to_the_run(tmp_path, capsys):
    for kimg in (1, 2):
        report_metric(RESULT, str(tmp_path), str(tmp_path / f"network-snapshot-00000{kimg}.pkl"))
    lines = (tmp_path / "metric-two_values.jsonl").read_text().splitlines()
    assert capsys.readouterr().out.splitlines() == ["two_values_a 0.5, two_values_b 2 (0s)"] * 2
    first, second = map(json.loads, lines)
    assert [first["snapshot_pkl"], second["snapshot_pkl"]] == [f"network-snapshot-00000{kimg}.pkl" for kimg in (1, 2)]
    assert first["results"] == {"two_values_a": 0.5, "two_values_b": 2.0}
    assert set(first) == {*RESULT, "snapshot_pkl", "timestamp"}
    assert second["timestamp"] >= first["timestamp"] > 1.6e9


def test_report_without_a_run_prints_the_record_too(capsys):
    report_metric(RESULT, snapshot_pkl="a/b.pkl")
    _summary, record = capsys.readouterr().out.splitlines()
    assert json.loads(record)["snapshot_pkl"] == "a/b.pkl"


def test_a_record_that_cannot_be_written_is_printed(tmp_path, capsys):
    report_metric(RESULT, tmp_path / "gone", "a.pkl")
    _summary, warning, record = capsys.readouterr().out.splitlines()
    path = tmp_path / "gone" / "metric-two_values.jsonl"
    assert warning == f"Warning: {path} cannot be written: No such file or directory; this is the record:"
    assert json.loads(record)["results"] == {"two_values_a": 0.5, "two_values_b": 2.0}


def test_a_result_that_cannot_be_printed_is_recorded(tmp_path, monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    with pytest.raises(ValueError, match="closed file"):
        report_metric(RESULT, tmp_path)
    assert (tmp_path / "metric-two_values.jsonl").is_file()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_record_is_valid_json(value, tmp_path):
    result = {"results": {"level": value}, "metric": "level", "total_time_str": "0s"}
    report_metric(result, tmp_path)
    (line,) = (tmp_path / "metric-level.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["results"] == {"level": None}


def test_summary_fits_on_a_line():
    protocol = {"num_real": 70000, "num_gen": 50000, "detector": "vgg16"}
    values = {"pr50k3_full_precision": 0.678912345, "pr50k3_full_recall": 0.5}
    result = {"results": values, "protocol": protocol, "total_time_str": "3m 02s"}
    assert summary(result) == (
        "pr50k3_full_precision 0.67891, pr50k3_full_recall 0.5 (70000 real images, 50000 images scored, vgg16, 3m 02s)"
    )
    protocol["G_kwargs"] = {}
    assert "50000 generated images" in summary(result)


@pytest.mark.parametrize("is_related", [True, False])
def test_summary_says_whether_the_discriminator_uses_related_features(is_related):
    protocol = {"pretrained_D": "EfficientNet-Lite0 (ImageNet)", "related_pretrained_D": is_related}
    line = summary({**RESULT, "protocol": protocol})
    warning = "; biased in its favor: the discriminator uses features of EfficientNet-Lite0 (ImageNet), pretrained on"
    assert (f"{warning} the same images as this detector" in line) == is_related


def line_of(snapshot, values, **rest):
    return json.dumps({"snapshot_pkl": snapshot, "results": values, **rest}) + "\n"


def test_what_was_written_is_read(tmp_path):
    report_metric({**RESULT, "results": {"a": 1, "b": float("nan")}}, tmp_path, tmp_path / "x.pkl")
    assert results_files(tmp_path) == [results_file(tmp_path, "two_values")]
    assert list(read_results(results_file(tmp_path, "two_values"))) == [Record(1, "x.pkl", {"a": 1.0}, {"seed": 3})]


def test_damaged_records_are_passed_over(tmp_path):
    path = tmp_path / "metric-a.jsonl"
    damaged = [line_of(None, {"a": 1}), line_of("x", [1]), "[1]\n", '{"snapshot_pkl": "x", "resu\n']
    path.write_text("".join([*damaged, line_of("x", {"a": 2, "b": None, "c": True}, protocol=[1])]))
    assert list(read_results(path)) == [Record(5, "x", {"a": 2.0}, {})]
    assert not list(read_results(tmp_path / "metric-b.jsonl"))


def test_the_first_record_of_a_snapshot_counts(tmp_path):
    path = tmp_path / "metric-a.jsonl"
    path.write_text(line_of("x", {"a": None}) + line_of("y", {"a": 2}) + line_of("x", {"a": 3}))
    assert [record.values for record in read_results(path)] == [{}, {"a": 2.0}, {"a": 3.0}]
    assert read_snapshot_results(path) == {"x": Record(1, "x", {}, {}), "y": Record(2, "y", {"a": 2.0}, {})}


def test_pages_read_results_without_torch():
    command = "import sys, metrics.results; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], cwd=REPOSITORY, check=False).returncode == 0
