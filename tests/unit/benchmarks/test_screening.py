"""The design is balanced, and effects come back from scores that were made of them."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.screening import DESIGNS, estimate, main
from comparison.jobs import Job, write_job
from comparison.methods import parse_methods
from comparison.statistics import half_width
from tests.fake_run import stats_line

NINE = DESIGNS["nine"]


@pytest.mark.parametrize("name", DESIGNS)
def test_settings_are_orthogonal(name):
    signs = np.where(DESIGNS[name].levels(), 1, -1)
    num_runs, num_columns = signs.shape
    assert num_runs == num_columns + 1
    assert len(DESIGNS[name].factors) <= num_columns
    assert (signs.T @ signs == num_runs * np.eye(num_columns)).all()
    assert (signs.sum(axis=0) == 0).all()


@pytest.mark.parametrize("name", DESIGNS)
def test_compare_reads_the_rows(name):
    design = DESIGNS[name]
    result = CliRunner().invoke(main, ["cfgs", f"--design={name}"])
    methods = parse_methods(result.output.strip())
    assert methods == [design.method(levels) for levels in design.levels()[:-1]]
    default = dict(design.method(design.levels()[-1]).options)
    for method, levels in zip(methods, design.levels(), strict=False):
        given = dict(method.options)
        differs = [given.get(factor) != default.get(factor) for factor, _value in design.factors]
        assert differs == levels[: len(design.factors)].tolist()
        if "adv-weights" in given:
            assert len(given["adv-weights"].split(",")) == (2 if "scales" in given else 3)


def test_effects_are_recovered_with_their_intervals():
    levels = np.concatenate([NINE.levels()[:, :3], NINE.levels()[-1:, :3]])
    exact = 100 + levels @ [10.0, -5.0, 0.0]
    assert [effect.mean for effect in estimate(levels, exact, "abc")] == pytest.approx([10, -5, 0], abs=1e-9)

    # A residual that no effect can take up: only the two runs of the default differ from each other.
    found = estimate(levels, exact + np.array([0.0] * 11 + [3, -3]), "abc")
    assert [effect.mean for effect in found] == pytest.approx([10, -5, 0], abs=1e-9)
    inputs = np.column_stack([np.ones(13), levels])
    std_errors = np.sqrt(18 / 9 * np.diag(np.linalg.inv(inputs.T @ inputs)))
    assert [effect.half_width for effect in found] == pytest.approx([half_width(e, 9) for e in std_errors[1:]])


def test_too_few_runs_are_refused():
    with pytest.raises(ValueError, match="4 runs do not suffice for 3 settings: run those of all rows"):
        estimate(NINE.levels()[:4, :3], np.zeros(4), "abc")
    with pytest.raises(ValueError, match="do not suffice"):
        estimate(np.zeros([9, 3], bool), np.zeros(9), "abc")


def write_comparison(outdir, scores):
    """Write a comparison with one run per method, and its scores at 10, 20 and 30 kimg."""
    folders = []
    for number, (label, values) in enumerate(scores.items()):
        run = outdir / f"method{number}/seed0/00000-run"
        run.mkdir(parents=True)
        folders.append(f"method{number}/seed0")
        dataset = {"name": "scenes", "num_images": 9, "resolution": 32}
        job = Job(
            method=label,
            seed=0,
            flags=[],
            dataset=dataset,
            data="scenes.zip",
            kimg=30,
            snapshot_kimg=10,
            metrics=["fd1k_efflite1"],
            score_flags=[],
        )
        write_job(run.parent, job)
        (run / "training_options.json").write_text("{}")
        ticks = [
            stats_line(
                {
                    "Progress/kimg": kimg + 0.008,
                    "Progress/tick": kimg,
                    "Timing/sec_per_tick": 1,
                    "Health/diversity": value / 1000,
                }
            )
            for kimg, value in zip((10, 20, 30), values, strict=True)
        ]
        (run / "stats.jsonl").write_text("".join(ticks))
        lines = [
            {"snapshot_pkl": f"network-snapshot-0000{kimg}.pkl", "results": {"fd1k_efflite1": value}}
            for kimg, value in zip((10, 20, 30), values, strict=True)
        ]
        (run / "metric-fd1k_efflite1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    plan = {"cfgs": list(scores), "folders": folders}
    (outdir / "comparison.json").write_text(json.dumps(plan))


def test_the_command_reads_several_comparisons(tmp_path):
    others = {
        NINE.method(levels).label: [999.0, 100.0 + 20 * bool(levels[3]), 102.0 + 20 * bool(levels[3])]
        for levels in NINE.levels()[:-1]
    }
    write_comparison(tmp_path / "rows", others)
    default = NINE.method(NINE.levels()[-1]).label
    for number, score in enumerate((98.0, 104.0)):
        write_comparison(tmp_path / f"default{number}", {default: [999.0, score, score], "stylegan2": [1.0, 1.0, 1.0]})
    folders = [str(tmp_path / name) for name in ("rows", "default0", "default1")]
    result = CliRunner().invoke(main, ["effects", *folders])
    assert result.exit_code == 0, result.output
    title, *lines = result.output.splitlines()
    assert title.startswith("13 runs, mean")
    assert [line.split()[0] for line in lines] == [f"{name}={value}" for name, value in NINE.factors]
    effects = [float(line.split()[1]) for line in lines]
    assert effects == pytest.approx([20.0 if "con-weight" in line else 0.0 for line in lines], abs=1e-9)
    assert [line.endswith("excludes zero") for line in lines] == ["con-weight" in line for line in lines]

    result = CliRunner().invoke(main, ["effects", *folders, "--score=Health/diversity"])
    effects = [float(line.split()[1]) for line in result.output.splitlines()[1:]]
    assert effects == pytest.approx([0.02 if "con-weight" in line else 0.0 for line in lines], abs=1e-9)

    result = CliRunner().invoke(main, ["effects", *folders, "--score=fd5k_nanodet"])
    assert result.output.splitlines()[-1] == (
        "Error: the runs of the design have no snapshot in common that fd5k_nanodet was computed for"
    )
