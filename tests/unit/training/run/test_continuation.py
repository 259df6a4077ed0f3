import contextlib
import json
import math

import pytest

from dnnlib.errors import UserError
from tests.image_files import encode, images, random_image, write_folder
from tests.training_runs import new_run, tiny_options, train_here, write_dataset
from tests.unit.training.run.launch_requests import continued, on_command_line, request
from training.checkpoint import save_checkpoint
from training.checkpoint_names import checkpoint_name
from training.run import continuation
from training.run.flags import Flags
from training.run.folder import RunState
from training.run.launch import prepare_run
from training.run.lock import lock_run
from training.run.options import session_options
from training.run.options_file import OPTIONS_FILE, read_options, write_options


def test_a_run_continues_with_its_own_options(tmp_path, run_dir, capsys):
    plan = prepare_run(request(tmp_path, continue_run="latest", **on_command_line({"gamma": 3.0, "con_weight": "1"})))
    assert plan.run_dir == run_dir
    assert plan.kwargs == {**read_options(run_dir), **session_options(Flags(progress="none"))}
    text = capsys.readouterr().out
    assert text.endswith(f"Continuing {run_dir}\n")
    assert "Warning: no effect on a run that is continued: --gamma, --con-weight\n" in text


def test_what_does_not_influence_the_weights_may_change(run_dir, data):
    moved = data.rename(data.with_name("moved.zip"))
    given = {"kimg": 7, "snap": 3, "tick": 0.5, "metrics": (), "metrics_ticks": 2, "workers": 0, "nobench": True}
    before = read_options(run_dir)
    kwargs = continued(run_dir, given={**given, "data": str(moved)}).kwargs
    assert {name: value for name, value in read_options(run_dir).items() if before.get(name, 0) != value} == {
        "total_kimg": 7,
        "image_snapshot_ticks": 3,
        "network_snapshot_ticks": 3,
        "kimg_per_tick": 0.5,
        "metrics_ticks": 2,
        "data_loader_kwargs": {"pin_memory": True, "num_workers": 0},
        "cudnn_benchmark": False,
        "training_set_kwargs": {**before["training_set_kwargs"], "path": str(moved)},
    }
    assert continued(run_dir).kwargs == kwargs  # from now on
    assert continued(run_dir, given={"kimg": 8}, dry_run=True).kwargs["total_kimg"] == 8
    assert continued(run_dir).kwargs["total_kimg"] == 7


def test_data_that_was_moved(run_dir, data):
    data.rename(data.with_name("moved.zip"))
    with pytest.raises(UserError, match=r"cats\.zip; if it was moved, give its place by --data$"):
        continued(run_dir)


def test_options_of_a_run_that_another_process_has_just_started_stay(run_dir, monkeypatch):
    before = (run_dir / OPTIONS_FILE).read_bytes()
    monkeypatch.setattr(continuation, "find_state", lambda _run_dir: RunState.NEW)  # as it was a moment ago
    with lock_run(run_dir), pytest.raises(UserError, match="is being trained by another process"):
        continued(run_dir, given={"kimg": 7})
    assert (run_dir / OPTIONS_FILE).read_bytes() == before


def test_a_run_without_its_checkpoints(run_dir):
    (run_dir / "stats.jsonl").write_text("{}\n{}\n")
    with pytest.raises(UserError, match=r"has trained, but has no intact checkpoint .* start a new run$"):
        continued(run_dir)


@pytest.mark.parametrize("is_dry_run", [False, True])
def test_a_finished_run_without_its_checkpoints_is_not_made_longer(run_dir, is_dry_run):
    (run_dir / "exit_status.json").write_text('{"reason": "finished", "kimg": 1, "total_kimg": 1}')
    before = (run_dir / OPTIONS_FILE).read_bytes()
    with pytest.raises(UserError, match="has trained, but has no intact checkpoint"):
        continued(run_dir, given={"kimg": 50000}, dry_run=is_dry_run)
    assert (run_dir / OPTIONS_FILE).read_bytes() == before


def test_a_dry_run_reads_checkpoints(run_dir):
    (run_dir / "training-state-000004000.safetensors").write_bytes(b"without its checksum")
    with pytest.raises(UserError, match="has trained, but has no intact checkpoint"):
        continued(run_dir, dry_run=True)


def test_a_dry_run_needs_one_intact_checkpoint(run_dir):
    save_checkpoint(run_dir, 4000, {})
    (run_dir / checkpoint_name(8000)).write_bytes(b"without its checksum")
    before = sorted(run_dir.iterdir())
    assert continued(run_dir, dry_run=True).run_dir == run_dir
    assert sorted(run_dir.iterdir()) == before


def test_the_place_of_a_detector_is_absolute(run_dir, tmp_path, monkeypatch):
    (tmp_path / "my.onnx").touch()
    monkeypatch.chdir(tmp_path)
    assert continued(run_dir, given={"object_detector": "my.onnx"}).kwargs["object_detector"] == str(
        tmp_path / "my.onnx"
    )


def test_a_run_may_have_frozen_more_layers_than_there_are(run_dir):
    options = read_options(run_dir)
    options["D_kwargs"]["block_kwargs"]["freeze_layers"] = 99
    write_options(run_dir, options)
    continued(run_dir, dry_run=True)


def test_classes_that_options_name(run_dir):
    options = read_options(run_dir)
    options["augment_kwargs"] = {"class_name": "os.system", "command": "false"}
    write_options(run_dir, options)
    with pytest.raises(UserError, match=r"augment_kwargs names the class 'os\.system', allowed: training\.augment"):
        continued(run_dir)


EDITS = {
    name: values
    for names, values in {
        ("batch_size", "batch_gpu", "num_gpus", "kimg_per_tick"): [0, -1, None, "4", [4], {}, True, math.inf],
        ("total_kimg", "ema_kimg", "ada_kimg", "random_seed"): [-1, None, "4", [4], {}, True, math.inf],
        ("G_kwargs", "D_kwargs", "loss_kwargs", "training_set_kwargs", "G_opt_kwargs"): [None, 0, "x", [], {}, [{}]],
        ("data_loader_kwargs", "augment_kwargs"): [0, "x", [], [{}]],
        ("metrics", "cudnn_benchmark", "resume_pkl"): [0, {}, [0]],
        ("unknown", "\x1b[2J"): [0],
    }.items()
    for name in names
}
"""What people have done to training_options.json."""


@pytest.mark.parametrize("name", EDITS)
def test_edited_options_are_one_clear_line(run_dir, name):
    options = read_options(run_dir)
    for value in EDITS[name]:
        (run_dir / OPTIONS_FILE).write_text(json.dumps({**options, name: value}))
        with pytest.raises(UserError) as caught:
            continued(run_dir)
        assert OPTIONS_FILE in str(caught.value)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("kwargs", ["G_kwargs", "D_kwargs", "loss_kwargs", "training_set_kwargs", "augment_kwargs"])
@pytest.mark.parametrize(
    "edit", [{"unknown": 1}, {"z_dim": "8", "channel_base": "x", "r1_gamma": [], "path": 3, "hue": "x"}]
)
def test_edited_arguments_of_a_class_are_one_clear_line(run_dir, kwargs, edit):
    options = read_options(run_dir)
    known = {name: value for name, value in edit.items() if name in options[kwargs] or name == "unknown"}
    options[kwargs].update(known)
    write_options(run_dir, options)
    with contextlib.suppress(UserError):  # some values do no harm
        continued(run_dir)


def test_the_key_of_a_value_of_the_wrong_type_is_named(run_dir):
    options = read_options(run_dir)
    options["G_opt_kwargs"]["lr"] = "0.002"
    write_options(run_dir, options)
    with pytest.raises(UserError) as caught:
        continued(run_dir)
    assert str(caught.value) == f'{run_dir / OPTIONS_FILE}: G_opt_kwargs.lr is "0.002", allowed: a number'


def test_a_dry_run_of_a_continued_run_has_all_figures(run_dir, capsys):
    assert not continued(run_dir, dry_run=True).has_work
    text = capsys.readouterr().out
    assert all(word in text for word in ("Images:", "Memory:", "Disk:", "Dry run"))


def test_flags_without_effect_are_named(run_dir, capsys):
    prepare_run(request(run_dir, continue_run=str(run_dir), **on_command_line({"desc": "x", "outdir": run_dir.parent})))
    assert "Warning: no effect on a run that is continued: --desc, --outdir\n" in capsys.readouterr().out


@pytest.mark.parametrize("num", [23, 25])
def test_images_that_were_added_or_removed(run_dir, data, num):
    write_dataset(data, num=num)
    with pytest.raises(UserError, match=f"has {num} images, but the run began with 24: restore them"):
        continued(run_dir)


@pytest.mark.parametrize(("num", "is_enough"), [(9, False), (10, True), (30, True)])
def test_a_subset_needs_its_images(tmp_path, data, num, is_enough):
    run_dir = prepare_run(request(tmp_path, {"data": str(data), "subset": 10})).run_dir
    write_dataset(data, num=num)
    if is_enough:
        assert continued(run_dir).has_work
        return
    with pytest.raises(UserError, match="has 9 images, but the run began with 10"):
        continued(run_dir)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tick": math.inf}, r"^invalid flags: kimg_per_tick is inf, but must be a positive number up to 1e\+15$"),
        ({"tick": math.nan}, r"^invalid flags: kimg_per_tick is nan, but must be a positive number up to 1e\+15$"),
        ({"tick": 1e-320}, r"training_options\.json with the flags given now cannot be used: OverflowError"),
        (
            {"kimg": 10**400},
            r"^invalid flags: total_kimg is 10{96}\.\.\., but must be a non-negative number up to 1e\+15$",
        ),
    ],
)
def test_flags_that_cannot_be_continued_with(run_dir, given, said):
    before = (run_dir / OPTIONS_FILE).read_bytes()
    with pytest.raises(UserError, match=said):
        continued(run_dir, given=given)
    assert (run_dir / OPTIONS_FILE).read_bytes() == before


@pytest.mark.parametrize("is_dry_run", [True, False])
def test_other_images_are_refused_before_the_options_are_written(tmp_path, is_dry_run):
    data = write_dataset(tmp_path / "data.zip")
    run_dir = new_run(tmp_path / "run", tiny_options(data, 2 * 4))
    train_here(run_dir, read_options(run_dir))
    before = (run_dir / OPTIONS_FILE).read_bytes()
    other = write_folder(tmp_path / "other", {name: encode(random_image(99, (16, 16))) for name in images(24)})
    given = {"data": str(other), "kimg": 9}
    with pytest.raises(UserError, match=f"^--data={other} holds other images than the run began with, in {data}: give"):
        continued(run_dir, given=given, dry_run=is_dry_run)
    assert (run_dir / OPTIONS_FILE).read_bytes() == before
    moved = data.rename(tmp_path / "moved.zip")
    assert continued(run_dir, given={"data": str(moved), "kimg": 9}).kwargs["training_set_kwargs"]["path"] == str(moved)


@pytest.fixture
def run_of_photos(tmp_path):
    """A run on photographs, and their folder."""
    photos = write_folder(tmp_path / "photos", images(8, size=(20, 16)))
    flags = {"data": str(photos), "batch": 4}
    return prepare_run(request(tmp_path, flags, size=16)).run_dir, photos


def test_photographs_stand_for_the_dataset_of_the_run(tmp_path, run_of_photos, capsys):
    run_dir, photos = run_of_photos
    path = read_options(run_dir)["training_set_kwargs"]["path"]
    moved = photos.rename(tmp_path / "moved")
    for data in (photos, moved):
        assert continued(run_dir, given={"data": str(data)}).kwargs["training_set_kwargs"]["path"] == path
    assert "have changed" not in capsys.readouterr().out


def test_photographs_that_have_changed_are_told(run_of_photos, capsys):
    run_dir, photos = run_of_photos
    path = read_options(run_dir)["training_set_kwargs"]["path"]
    continued(run_dir, given={"data": str(photos)})
    assert "have changed" not in capsys.readouterr().out
    (photos / "new.png").write_bytes(encode(random_image(99, (20, 16))))
    assert continued(run_dir, given={"data": str(photos)}).kwargs["training_set_kwargs"]["path"] == path
    said = f"Note: the photographs in {photos} have changed; the run goes on with {path}, which was prepared before."
    assert said in capsys.readouterr().out


def test_the_photographs_of_a_dataset_are_not_its_place(tmp_path):
    data = write_dataset(tmp_path / "data.zip")
    (tmp_path / "data.source.json").write_text('{"source": "/photographs", "files": "checksum"}')
    run_dir = new_run(tmp_path / "run", tiny_options(data, 2 * 4))
    train_here(run_dir, read_options(run_dir))
    other = write_folder(tmp_path / "other", {name: encode(random_image(99, (16, 16))) for name in images(24)})
    said = f"in {data}: leave out --data, for these were prepared from photographs, or start a new run"
    with pytest.raises(UserError, match=said):
        continued(run_dir, given={"data": str(other), "kimg": 9})


def test_images_for_metrics_need_the_labels_of_the_run(tmp_path, data):
    run_dir = prepare_run(request(tmp_path, {"data": str(data), "cond": True})).run_dir
    other = write_folder(tmp_path / "other", images(8, size=(16, 16)))
    with pytest.raises(UserError, match="--metricdata: other has labels of width 0, but the generator is conditional"):
        continued(run_dir, given={"metricdata": str(other), "metrics": ("fd1k_efflite1",)})
    stored = read_options(run_dir)
    metric_set = {**stored["training_set_kwargs"], "path": str(other), "max_size": None}
    write_options(run_dir, {**stored, "metric_set_kwargs": metric_set, "metrics": ["fd1k_efflite1"]})
    with pytest.raises(UserError, match="give images with the same labels, or --metrics=none"):
        continued(run_dir)
    continued(run_dir, given={"metrics": ()})
