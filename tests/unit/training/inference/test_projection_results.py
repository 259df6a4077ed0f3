import json

import numpy as np
import pytest
import torch
from PIL import Image

from training.inference import grid_size, projection_results
from training.inference.projection_results import Results
from training.inference.targets import Target

CPU = torch.device("cpu")


class Mean(torch.nn.Module):
    def forward(self, img, resize_images, return_lpips):
        return img.mean(dim=(2, 3)) / 255


def grey(value):
    return np.full([4, 4, 1], value, np.uint8)


@pytest.fixture
def results(tmp_path):
    targets = [Target(f"{i}.png", grey(i), (0, 0, 4)) for i in range(3)]
    results = Results(tmp_path, targets, True, Mean(), "mean", CPU)
    for number, target in enumerate(targets):
        results.write("target", number, target.pixels)
        results.add("proj", number, grey(100 + number))
    return results


def test_files_of_the_first_target_are_listed_whatever_their_suffix(results):
    results.names += ["proj00.mp4", "proj01.mp4", "projected_w.npz"]
    assert results.listing() == "target00.png, proj00.png, proj00.mp4, projected_w.npz, ..."


def test_what_was_found_is_measured_and_compared(results, tmp_path, capsys):
    results.print_distances("proj")
    assert capsys.readouterr().out == "proj.png differs from its target: pixels 100, mean 0.4614, mean of 3\n"
    results.write_summary({"seed": 1})
    summary = json.loads((tmp_path / "distances.json").read_text())
    assert [row["proj"]["pixels"] for row in summary["targets"]] == [100, 100, 100]
    with Image.open(tmp_path / "comparison.png") as image:
        np.testing.assert_array_equal(np.asarray(image)[::4, ::4], [[0, 100], [1, 101], [2, 102]])


@pytest.mark.parametrize("limit", ["side", "area", "rows"])
def test_a_comparison_that_would_be_too_large_shows_the_first_targets(results, tmp_path, monkeypatch, limit):
    if limit == "side":
        monkeypatch.setattr(grid_size, "MAX_GRID_PX", 2 * 4 + 3)
    elif limit == "area":
        monkeypatch.setattr(grid_size, "MAX_GRID_AREA_PX", 2 * 2 * 4**2 + 3)
    else:
        monkeypatch.setattr(projection_results, "MAX_COMPARED", 2)
    results.write_summary({})
    with Image.open(tmp_path / "comparison.png") as image:
        assert np.asarray(image)[::4, ::4].tolist() == [[0, 100], [1, 101]]
    assert len(json.loads((tmp_path / "distances.json").read_text())["targets"]) == 3


def test_images_that_are_not_compared_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(projection_results, "MAX_COMPARED", 2)
    results = Results(tmp_path, [], True, Mean(), "mean", CPU)
    for number in range(5):
        results.write("target", number, grey(number))
    assert len(results.compared["target"]) == 2
    assert (tmp_path / "target04.png").is_file()
