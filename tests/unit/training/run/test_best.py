import json

import pytest

from training.run import best


def snapshot(run_dir, kimg):
    path = run_dir / f"network-snapshot-{kimg:06d}.pkl"
    path.write_text(str(kimg))
    return path


@pytest.mark.parametrize("links", [True, False])
def test_the_best_is_kept(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(best.os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links")))
    values = {4: 50.0, 8: 30.0, 12: 40.0, 16: 30.0}
    assert [
        best.keep_best(tmp_path, "fid", value, kimg, snapshot(tmp_path, kimg)) for kimg, value in values.items()
    ] == [*(True, True, False, False)]
    assert (tmp_path / "network-snapshot-best.pkl").read_text() == "8"
    assert best.read_best(tmp_path) == {
        "snapshot": "network-snapshot-000008.pkl",
        "score": "fid",
        "value": 30,
        "kimg": 8,
        "conditions": {},
    }
    assert not list(tmp_path.glob(".*"))


def test_more_is_better_for_some(tmp_path):
    for kimg, value in enumerate([1.0, 3.0, 2.0]):
        best.keep_best(tmp_path, "is50k_mean", value, kimg, snapshot(tmp_path, kimg))
    assert best.read_best(tmp_path)["kimg"] == 1


def test_another_score_begins_anew(tmp_path):
    assert best.keep_best(tmp_path, "fid", 3.0, 1, snapshot(tmp_path, 1))
    assert best.keep_best(tmp_path, "kid", 9.0, 2, snapshot(tmp_path, 2))
    assert not best.keep_best(tmp_path, "cars_per_image", 9.0, 2, snapshot(tmp_path, 2))


def test_a_score_of_other_images_begins_anew(tmp_path):
    kept = []
    for kimg, (value, images) in enumerate([(3.0, None), (4.0, "a"), (2.0, "a"), (9.0, "b"), (9.5, "b"), (8.0, "b")]):
        path = snapshot(tmp_path, kimg)
        record = {"results": {"fid": value}, "snapshot_pkl": path.name, "protocol": {"real_fingerprint": images}}
        if images is None:
            del record["protocol"]  # as in older files
        with open(tmp_path / "metric-fid.jsonl", "a") as file:
            file.write(json.dumps(record) + "\n")
        kept.append(best.keep_best(tmp_path, "fid", value, kimg, path))
    assert kept == [True, False, True, True, False, True]
    assert best.read_best(tmp_path)["conditions"] == {"real_fingerprint": "b"}


def test_the_conditions_are_those_of_the_value(tmp_path):
    path = snapshot(tmp_path, 1)
    for value, images in ((3.0, "a"), (2.0, "b"), (1.0, "c")):
        record = {"results": {"fid": value}, "snapshot_pkl": path.name, "protocol": {"real_fingerprint": images}}
        with open(tmp_path / "metric-fid.jsonl", "a") as file:
            file.write(json.dumps(record) + "\n")
    best.keep_best(tmp_path, "fid", 2.0, 1, path)
    assert best.read_best(tmp_path)["conditions"] == {"real_fingerprint": "b"}


RECORD = {"snapshot": "a.pkl", "score": "fid", "value": 1, "kimg": 1}


@pytest.mark.parametrize(
    "content",
    [
        *(None, "", "[]", "{}"),
        *(json.dumps({**RECORD, **other}) for other in ({"snapshot": 1}, {"value": 10**400}, {"kimg": float("nan")})),
        json.dumps(RECORD).ljust((1 << 20) + 1),
    ],
)
def test_a_damaged_record_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / "best.json").write_text(content)
    assert best.read_best(tmp_path) is None
    (tmp_path / "best.json").write_text(json.dumps(RECORD))
    assert best.read_best(tmp_path) == RECORD
