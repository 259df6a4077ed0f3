"""Verdicts on records with known numbers."""

import pytest

from comparison.words import verdicts


def test_verdicts(comparison):
    (sentence,) = verdicts(comparison, "fd_tiny")
    assert sentence.startswith("msconD+con-weight=0.1 and stylegan2: the difference of means is -9 (standard error")
    assert "their ratio 0.5 (" in sentence
    assert "contains zero" in sentence
    assert "seeds per method" in sentence


def test_numbers_that_were_computed_otherwise_are_named(comparison):
    runs = [run for result in comparison.methods for run in result.runs]
    for run in runs:
        run.conditions["fd_tiny"] = {"5000 real images of checksum abcdef01, seed 0"}
    assert len(list(verdicts(comparison, "fd_tiny"))) == 1
    runs[1].conditions["fd_tiny"].add("7 real images of checksum 99999999, seed 0")
    warning, _verdict = verdicts(comparison, "fd_tiny")
    assert warning == (
        "not computed as the others were, so that differences mislead: stylegan2 seed 1 (by 7 real images of checksum "
        "99999999, seed 0)"
    )


def set_scores(comparison, score, *values):
    """One value for each method, a tenth more for its second seed."""
    for result, value in zip(comparison.methods, values, strict=True):
        for i, run in enumerate(result.runs):
            points = run.scores["fd_tiny"]
            run.scores[score] = [type(point)(point.kimg, point.train_sec, value + i / 10, "") for point in points]


@pytest.mark.parametrize(
    ("score", "values", "interval", "word"),
    [
        ("fd_tiny", (100.0, 1.0), "-99.3 to -98.7", "better"),
        ("fd_tiny", (1.0, 100.0), "98.7 to 99.3", "worse"),
        ("pr_tiny_recall", (1.0, 100.0), "98.7 to 99.3", "better"),
        ("pr_tiny_recall", (100.0, 1.0), "-99.3 to -98.7", "worse"),
    ],
)
def test_verdict_of_a_clear_difference(comparison, score, values, interval, word):
    """Student's quantile of two degrees of freedom, 4.303, times the standard error, 0.0707, is 0.304."""
    set_scores(comparison, score, *values)
    (sentence,) = verdicts(comparison, score)
    assert f" reaches from {interval}. It excludes zero: " in sentence
    assert sentence.endswith(f"It excludes zero: {word}, beyond the variation between seeds.")


@pytest.mark.parametrize(("num_methods", "words"), [(2, "one seed each"), (1, "one seed of a method")])
def test_verdict_of_one_seed(comparison, num_methods, words):
    for result in comparison.methods[:num_methods]:
        del result.runs[1]
    (sentence,) = verdicts(comparison, "fd_tiny")
    assert sentence.endswith(f"; with {words} it is unknown how seeds scatter.")
