"""Captions of pictures, of records with known numbers."""

import re

from comparison import pictures
from comparison.jobs import BOXES
from tests.unit.comparison.fake_runs import RESOLUTION


def captions(text):
    return re.findall("<figcaption>(.*?)</figcaption>", text)


def without_tags(text):
    return re.sub("<.*?>", "", text)


def test_samples_stand_with_the_last_scores_of_their_seed_and_with_real_images(comparison):
    real, *captioned = captions(pictures.samples(comparison, RESOLUTION))
    assert real == "Real images of the training set"
    how = "training seed 0, network-snapshot-000003.pkl, seeds 0 to 31, truncation psi 0.7"
    assert [without_tags(caption) for caption in captioned] == [
        f"stylegan2, {how}; fd_tiny 12; okd_tiny_car 0.12",
        f"msconD+con-weight=0.1, {how}; fd_tiny 5; okd_tiny_car 0.05",
    ]
    assert 'data-records="stylegan2/seed0/00000-scenes/metric-fd_tiny.jsonl:1"' in captioned[0]


def test_samples_are_those_of_the_first_seed_that_has_any(comparison):
    first, second = comparison.methods[0].folders.values()
    (first / "samples.json").unlink()
    _real, caption, _other = captions(pictures.samples(comparison, RESOLUTION))
    assert "training seed 1, " in caption
    assert without_tags(caption).endswith("; fd_tiny 16; okd_tiny_car 0.16")
    (second / "samples.png").unlink()
    assert len(captions(pictures.samples(comparison, RESOLUTION))) == 2


def test_a_caption_names_few_scores(comparison):
    for run in comparison.methods[0].runs:
        run.scores.update({f"more{i}": run.scores["fd_tiny"] for i in range(3)})
    comparison.scores += ["more0", "more1", "more2"]
    caption = captions(pictures.samples(comparison, RESOLUTION))[1]
    assert without_tags(caption).endswith("; fd_tiny 12; okd_tiny_car 0.12; more0 12")


def test_without_pictures_there_are_no_sections(comparison):
    for result in comparison.methods:
        for folder in result.folders.values():
            (folder / "samples.png").unlink()
    assert pictures.samples(comparison, RESOLUTION) is None
    assert pictures.boxes(comparison) is None


def test_boxes_are_those_of_the_first_seed_that_has_any(comparison):
    _first, second = comparison.methods[1].folders.values()
    (second / BOXES).write_bytes((second / "samples.png").read_bytes())
    assert captions(pictures.boxes(comparison)) == ["msconD+con-weight=0.1: objects that the detector found"]
