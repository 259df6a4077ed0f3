"""Verdicts on records with known numbers."""

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


def test_verdict_of_a_clear_difference(comparison):
    for result, value in zip(comparison.methods, (100.0, 1.0), strict=True):
        for i, run in enumerate(result.runs):
            points = run.scores["fd_tiny"]
            run.scores["fd_tiny"] = [type(point)(point.kimg, point.train_sec, value + i / 10, "") for point in points]
    (sentence,) = verdicts(comparison, "fd_tiny")
    assert sentence.endswith("It excludes zero: better, beyond the variation between seeds.")


def test_verdict_of_one_seed(comparison):
    for result in comparison.methods:
        del result.runs[1]
    (sentence,) = verdicts(comparison, "fd_tiny")
    assert sentence.endswith("; with one seed each it is unknown how seeds scatter.")
