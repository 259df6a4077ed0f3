"""Plots: what is drawn where, from runs with and without local scales."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from msconD import plots

NUM_TICKS = 4


def write_run(folder: Path, scales: list[int], is_contrastive: bool) -> Path:
    folder.mkdir()
    with (folder / "stats.jsonl").open("w") as file:
        for tick in range(NUM_TICKS):
            record = {"Progress/kimg": {"num": 1, "mean": 4.0 * tick, "std": 0}, "timestamp": 0}
            for kind, sign in (("real", 1), ("fake", -1)):
                record[f"Loss/scores/{kind}"] = {"num": 9, "mean": sign * tick, "std": 0.5}
                for h in scales:
                    record[f"Loss/scores/{kind}_h{h}"] = {"num": 9, "mean": sign * tick * h, "std": 0.5}
            for h in scales if is_contrastive else []:
                for name, value in {"loss": 5 - tick, "excess": -tick, "top1": tick / 10}.items():
                    record[f"Con/{name}_h{h}"] = {"num": 9 if tick > 0 else 0, "mean": value, "std": 0.1}
            file.write(json.dumps(record) + "\n")
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [
        write_run(tmp_path / "stylegan2", [], False),
        write_run(tmp_path / "multiscale", [1, 8, 16], False),
        write_run(tmp_path / "msconD", [1, 8, 16], True),
    ]


def test_logits_have_a_panel_per_run_and_scale(folders: list[Path]) -> None:
    figure = plots.plot_logits([plots.read_run(folder) for folder in folders])
    shown = [panel for panel in figure.axes if panel.axison]
    assert [panel.get_title().split()[1] for panel in shown] == ["stylegan2"] + ["multiscale"] * 3 + ["msconD"] * 3
    real, fake = shown[3].lines  # multiscale, height 16
    assert real.get_xdata().tolist() == [0, 4, 8, 12]
    assert real.get_ydata().tolist() == [0, 16, 32, 48]
    assert fake.get_ydata().tolist() == [0, -16, -32, -48]
    band = shown[3].collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == (-0.5, 48.5)


def test_contrastive_curves(folders: list[Path]) -> None:
    figure = plots.plot_contrastive([plots.read_run(folder) for folder in folders])
    assert figure is not None
    assert len(figure.axes) == 6
    (top1,) = figure.axes[2].lines
    assert top1.get_xdata().tolist() == [4, 8, 12]  # nothing was reported in the first tick
    loss, guessing = figure.axes[5].lines
    assert loss.get_ydata().tolist() == [4, 3, 2]
    assert np.allclose(guessing.get_ydata(), 5)


@pytest.mark.slow
def test_command(folders: list[Path], tmp_path: Path) -> None:
    result = CliRunner().invoke(plots.main, [*map(str, folders), "--outdir", str(tmp_path / "out")])
    assert result.exit_code == 0
    names = ["contrastive.png", "contrastive.svg", "logits.png", "logits.svg"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert all(str(tmp_path / "out" / name) in result.output for name in names)


def test_a_run_without_contrastive_task(folders: list[Path]) -> None:
    assert CliRunner().invoke(plots.main, [str(folders[0])]).exit_code == 0
    assert sorted(path.name for path in folders[0].iterdir()) == ["logits.png", "logits.svg", "stats.jsonl"]


KIMG = '"Progress/kimg": {"num": 1, "mean": 16, "std": 0}'
SCORES = '"num": 9, "mean": 1, "std": 0.5'


@pytest.mark.parametrize(
    "line",
    [
        *("oops", "", "null", "[" * 100_000),
        f'{{"Loss/scores/real": {{{SCORES}}}}}',
        f'{{{KIMG}, "Loss/scores/real": "high"}}',
        f'{{{KIMG}, "Loss/scores/real": {{"num": 9, "mean": "1", "std": 1}}}}',
        *(
            f'{{{KIMG}, "Loss/scores/real": {{"num": 9, "mean": {value}, "std": 1}}}}'
            for value in ("NaN", "null", "-Infinity", "1e400", "1" + "0" * 400)
        ),
    ],
)
def test_what_is_damaged_or_not_finite_is_left_out_and_named(folders: list[Path], line: str) -> None:
    path = folders[0] / "stats.jsonl"
    with path.open("a") as file:
        file.write(f'{line}\n{{{KIMG.replace("16", "20")}, "Loss/scores/real": {{{SCORES}}}}}\n')
    assert plots.read_run(folders[0]).series["Loss/scores/real"].kimg.tolist() == [0, 4, 8, 12, 20]
    result = CliRunner().invoke(plots.main, [str(folders[0])])
    assert result.exit_code == 0
    assert result.stderr == f"{path}: line {NUM_TICKS + 1}: what is damaged or not finite is left out\n"


def test_of_several_lines_that_are_left_out_the_first_is_named(folders: list[Path]) -> None:
    path = folders[0] / "stats.jsonl"
    with path.open("a") as file:
        file.write(f'{{{KIMG}, "Loss/scores/real": {{"num": 9, "mean": null, "std": null}}}}\n' * 2)
    result = CliRunner().invoke(plots.main, [str(folders[0])])
    assert result.stderr == f"{path}: line {NUM_TICKS + 1} and others: what is damaged or not finite is left out\n"


@pytest.mark.parametrize(
    "line", ['{"Progress/k', f'{{{KIMG}, "Loss/G/loss": {{"num": 1, "mean": null, "std": null}}}}']
)
def test_an_unfinished_last_line_and_what_is_not_plotted_are_not_named(folders: list[Path], line: str) -> None:
    with (folders[0] / "stats.jsonl").open("a") as file:
        file.write(line)
    assert plots.read_run(folders[0]).left_out == []


def test_curves_with_different_gaps(folders: list[Path]) -> None:
    with (folders[2] / "stats.jsonl").open("a") as file:
        file.write(f'{{{KIMG}, "Con/loss_h8": {{{SCORES}}}}}\n')
    figure = plots.plot_contrastive([plots.read_run(folders[2])])
    assert figure is not None
    loss, guessing = figure.axes[4].lines
    assert (loss.get_xdata().tolist(), guessing.get_xdata().tolist()) == ([4, 8, 12, 16], [4, 8, 12])


def test_an_empty_run_and_odd_names(tmp_path: Path) -> None:
    folder = tmp_path / "$x_{$"
    folder.mkdir()
    (folder / "stats.jsonl").write_text('{"Loss/scores/real_h3": 1, "Loss/scores/real_h99999999": 1}\n')
    assert CliRunner().invoke(plots.main, [str(folder)]).exit_code == 0
    write_run(tmp_path / "$y_{$", [1, 8], False)
    assert CliRunner().invoke(plots.main, [str(tmp_path / "$y_{$")]).exit_code == 0


def test_mistakes_are_one_line(folders: list[Path], tmp_path: Path) -> None:
    result = CliRunner().invoke(plots.main, [str(tmp_path / "nowhere")])
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "nowhere/stats.jsonl is missing; give the folder of a run that has finished a tick" in result.output
    (tmp_path / "file").touch()
    result = CliRunner().invoke(plots.main, [str(folders[0]), f"--outdir={tmp_path / 'file'}"])
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
