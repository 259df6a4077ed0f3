import contextlib
import json
import math

import pytest
import torch

from dnnlib.util import UserError
from tests.image_files import encode, images, random_image, write_folder
from tests.training_runs import new_run, tiny_options, train_here, write_dataset
from tests.unit.training.run.launch_requests import continued, request
from torch_utils.distributed import World
from training.run import launch
from training.run.folder import (
    OPTIONS_FILE,
    STATUS_FILE,
    RunState,
    lock_run,
    read_options,
    write_options,
    write_status,
)
from training.run.launch import prepare_run, train_run
from training.run.photographs import PhotographFlags


@pytest.fixture
def data(tmp_path):
    return write_dataset(tmp_path / "cats.zip")


# Preparing


def test_a_new_run_has_a_folder_with_its_options(tmp_path, data):
    plan = prepare_run(request(tmp_path, {"data": str(data), "cond": True}))
    assert plan.run_dir == tmp_path / "runs" / "00000-cats-cond-auto1"
    assert [path.name for path in plan.run_dir.iterdir()] == ["training_options.json"]
    assert plan.kwargs == {**read_options(plan.run_dir), "progress": "none"}
    assert plan.kwargs["training_set_kwargs"]["use_labels"]


def test_the_place_of_the_data_is_absolute(tmp_path, data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert prepare_run(request(tmp_path, {"data": data.name})).kwargs["training_set_kwargs"]["path"] == str(data)


def test_what_is_printed(tmp_path, data, capsys):
    run_dir = prepare_run(request(tmp_path, {"data": str(data), "cond": True})).run_dir
    text = capsys.readouterr().out
    assert "24 of 16 px, 3 classes with 8 to 8 images each" in text
    assert text.endswith(f"Run folder: {run_dir} (options in {run_dir}/training_options.json)\n")


def test_a_dry_run_writes_nothing(tmp_path, data, capsys):
    assert train_run(request(tmp_path, {"data": str(data)}, is_dry_run=True))
    assert [path.name for path in tmp_path.iterdir()] == ["cats.zip"]
    assert capsys.readouterr().out.endswith("Dry run: nothing was written.\n")


@pytest.fixture
def eight_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 1 << 30))


@pytest.mark.usefixtures("eight_gpus")
def test_more_processes_than_gpus_of_this_machine(tmp_path, data):
    with pytest.raises(UserError, match=r"^--gpus=16: CUDA devices on this machine: 8; use --gpus=8$"):
        train_run(request(tmp_path, {"data": str(data), "gpus": 16, "batch": 16}, device="cuda"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("eight_gpus")
def test_processes_of_several_machines_may_be_more(tmp_path, data):
    """As torchrun starts them, each with a device of its own machine."""
    prepare_run(request(tmp_path, {"data": str(data), "gpus": 16, "batch": 16}, device="cuda"))


def test_a_folder_of_images_serves_as_data(tmp_path):
    data = write_folder(tmp_path / "dogs", images(3))
    assert prepare_run(request(tmp_path, {"data": str(data)})).run_dir.name == "00000-dogs-auto1"


@pytest.mark.parametrize("changes", [{"outdir": None}, {"flags": None}])
def test_a_new_run_needs_data_and_a_place(tmp_path, data, changes):
    with pytest.raises(UserError, match=r"^a new run needs --outdir and --data; --continue=RUN continues an old one$"):
        prepare_run(request(tmp_path, **{"flags": {"data": str(data)}, **changes}))


def test_settings_of_a_network_are_checked_before_anything_is_written(tmp_path, data):
    with pytest.raises(UserError, match=r"^scales must be 1 and any of 4, 8 for images of 16 px"):
        prepare_run(request(tmp_path, {"data": str(data), "cfg": "msconD"}))  # its default scales need 32 px
    assert not (tmp_path / "runs").exists()


def test_a_metric_that_does_not_exist(tmp_path, data):
    with pytest.raises(UserError, match=r"there is no metric 'fid5k'; choose from fid50k_full, .*, or none$"):
        prepare_run(request(tmp_path, {"data": str(data), "metrics": ("fid50k_full", "fid5k")}))


# Photographs, and choices for this machine

PHOTOGRAPHS = PhotographFlags(16)


@pytest.fixture
def photos(tmp_path):
    return write_folder(
        tmp_path / "photos", {f"{side}.png": encode(random_image(size=(side, 20))) for side in (17, 20)}
    )


def test_photographs_are_prepared_beside_the_runs(tmp_path, photos):
    plan = prepare_run(request(tmp_path, {"data": str(photos)}, photographs=PHOTOGRAPHS))
    assert plan.run_dir.name == "00000-photos-16px-auto1"
    assert plan.kwargs["training_set_kwargs"]["path"] == str(tmp_path / "runs/datasets/photos-16px.zip")
    # The flags of the first part, given again, lead to the prepared images.
    kwargs = prepare_run(
        request(tmp_path, continue_run="latest", given={"data": str(photos)}, photographs=PHOTOGRAPHS)
    ).kwargs
    assert kwargs["training_set_kwargs"] == plan.kwargs["training_set_kwargs"]


def test_photographs_in_the_current_folder(tmp_path, photos, monkeypatch):
    monkeypatch.chdir(photos)
    plan = prepare_run(request(tmp_path, {"data": "."}, photographs=PHOTOGRAPHS))
    assert continued(plan.run_dir).kwargs["training_set_kwargs"] == plan.kwargs["training_set_kwargs"]


def test_a_dataset_of_the_wanted_size_is_not_prepared_again(tmp_path, data):
    plan = prepare_run(request(tmp_path, {"data": str(data)}, photographs=PHOTOGRAPHS))
    assert plan.kwargs["training_set_kwargs"]["path"] == str(data)


def test_a_dry_run_prepares_nothing(tmp_path, photos, capsys):
    train_run(request(tmp_path, {"data": str(photos)}, photographs=PHOTOGRAPHS, is_dry_run=True))
    assert "Images:     2 of 16 px, no labels" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_photographs_without_a_size(tmp_path, photos):
    with pytest.raises(UserError, match=r"; or add --size=16, and they are prepared first$"):
        prepare_run(request(tmp_path, {"data": str(photos)}))


def test_a_machine_without_a_gpu_trains_small_networks(tmp_path, data, capsys):
    plan = prepare_run(request(tmp_path, {"data": str(data)}, chooses=True))
    assert plan.run_dir.name == "00000-cats-auto1-small"
    assert "Chosen:     --small" in capsys.readouterr().out
    chosen = {"data": str(data), "explicit": frozenset({"cfg"})}
    assert prepare_run(request(tmp_path, chosen, chooses=True)).run_dir.name == "00001-cats-auto1"


def test_a_run_to_resume_from(tmp_path, data):
    run_dir = prepare_run(request(tmp_path, {"data": str(data)})).run_dir
    flags = {"data": str(data), "resume": "runs"}
    with pytest.raises(UserError, match=r"^--resume=.*: this run has saved neither a snapshot nor a checkpoint yet$"):
        prepare_run(request(tmp_path, {**flags, "resume": str(run_dir)}))
    (run_dir / "network-snapshot-000000.pkl").touch()
    kwargs = prepare_run(request(tmp_path, {**flags, "resume": str(run_dir)})).kwargs
    assert kwargs["resume_pkl"] == str(run_dir / "network-snapshot-000000.pkl")


@pytest.mark.parametrize("flag", ["data", "metricdata"])
def test_a_run_among_the_images_is_refused(tmp_path, data, flag):
    folder = write_folder(tmp_path / "photos", images(24, size=(16, 16)))
    flags = {"data": str(data), flag: str(folder)}
    for outdir in (folder, folder / "runs"):
        with pytest.raises(UserError, match=f"^--outdir={outdir} lies in --{flag}={folder}, to whose images"):
            prepare_run(request(tmp_path, flags, outdir=outdir))


def test_folders_of_classes_that_have_the_size_already(tmp_path):
    files = images(4, size=(16, 16))
    folder = write_folder(
        tmp_path / "photos", {f"{'ab'[i % 2]}/{name}": file for i, (name, file) in enumerate(files.items())}
    )
    flags = {"data": str(folder), "cond": True}
    plan = prepare_run(request(tmp_path, flags, photographs=PhotographFlags(size_px=16)))
    assert plan.kwargs["training_set_kwargs"]["path"] == str(tmp_path / "runs/datasets/photos-16px.zip")
    assert plan.kwargs["training_set_kwargs"]["use_labels"]


def test_a_generator_alone_is_nothing_to_resume_from(tmp_path, data):
    with pytest.raises(UserError, match=r"^--resume=scenes32 is a folder without snapshots; give a snapshot"):
        prepare_run(request(tmp_path, {"data": str(data), "resume": "scenes32"}))


# Continuing


@pytest.fixture
def run_dir(tmp_path, data):
    return prepare_run(request(tmp_path, {"data": str(data)})).run_dir


def test_a_run_continues_with_its_own_options(tmp_path, run_dir, capsys):
    plan = prepare_run(request(tmp_path, continue_run="latest", given={"gamma": 3.0, "con_weight": "1"}))
    assert plan.run_dir == run_dir
    assert plan.kwargs == {**read_options(run_dir), "progress": "none"}
    text = capsys.readouterr().out
    assert text.endswith(f"Continuing {run_dir}\n")
    assert "Warning: no effect on a run that is continued: --gamma, --con-weight\n" in text


def test_what_does_not_influence_the_weights_may_change(run_dir, data):
    moved = data.rename(data.with_name("moved.zip"))
    given = {"kimg": 7, "snap": 3, "tick": 0.5, "metrics": (), "metrics_ticks": 2, "workers": 0, "nobench": True}
    before = read_options(run_dir)
    kwargs = continued(run_dir, given={**given, "data": str(moved)}).kwargs
    assert {name: value for name, value in kwargs.items() if before.get(name, 0) != value} == {
        "total_kimg": 7,
        "image_snapshot_ticks": 3,
        "network_snapshot_ticks": 3,
        "kimg_per_tick": 0.5,
        "metrics_ticks": 2,
        "data_loader_kwargs": {"pin_memory": True, "num_workers": 0},
        "cudnn_benchmark": False,
        "training_set_kwargs": {**before["training_set_kwargs"], "path": str(moved)},
        "progress": "none",
    }
    assert continued(run_dir).kwargs == kwargs  # from now on
    assert continued(run_dir, given={"kimg": 8}, is_dry_run=True).kwargs["total_kimg"] == 8
    assert continued(run_dir).kwargs["total_kimg"] == 7


def test_data_that_was_moved(run_dir, data):
    data.rename(data.with_name("moved.zip"))
    with pytest.raises(UserError, match=r"cats\.zip; if it was moved, give its place by --data$"):
        continued(run_dir)


def test_options_of_a_run_that_another_process_has_just_started_stay(run_dir, monkeypatch):
    before = (run_dir / OPTIONS_FILE).read_bytes()
    monkeypatch.setattr(launch, "find_state", lambda _run_dir: RunState.NEW)  # as it was a moment ago
    with lock_run(run_dir), pytest.raises(UserError, match="is being trained by another process"):
        continued(run_dir, given={"kimg": 7})
    assert (run_dir / OPTIONS_FILE).read_bytes() == before


def test_a_run_without_its_checkpoints(run_dir):
    (run_dir / "stats.jsonl").write_text("{}\n{}\n")
    with pytest.raises(UserError, match=r"has trained, but has no intact checkpoint .* start a new run$"):
        continued(run_dir)


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


def test_a_dry_run_of_a_continued_run_has_all_figures(run_dir, capsys):
    assert not continued(run_dir, is_dry_run=True).has_work
    text = capsys.readouterr().out
    assert all(word in text for word in ("Images:", "Memory:", "Disk:", "Dry run"))


# How it ends


def end(run_dir, monkeypatch, is_finished, writes_status=True):
    """`train_run` with a training loop that does nothing."""

    def loop(run_dir, **_kwargs):
        if writes_status:
            (tmp / STATUS_FILE).write_text(json.dumps({"reason": "finished" if is_finished else "stopped"}))
        return is_finished

    tmp = run_dir
    monkeypatch.setattr(launch, "training_loop", loop)
    return train_run(request(run_dir.parent, continue_run=str(run_dir)))


@pytest.mark.parametrize("is_finished", [True, False])
def test_whether_training_is_complete(run_dir, monkeypatch, capsys, is_finished):
    assert end(run_dir, monkeypatch, is_finished) == is_finished
    stopped = f"Stopped; to continue: python train.py --continue={run_dir}\n"
    line = f"Finished. Run folder: {run_dir}\n" if is_finished else stopped
    assert capsys.readouterr().out.endswith(line)
    options, _end = json.JSONDecoder().raw_decode((run_dir / "log.txt").read_text().removeprefix("Training options:\n"))
    assert options["total_kimg"] == 25000
    assert (run_dir / "log.txt").read_text().endswith("}\n" + line)


def test_an_old_status_does_not_count(run_dir, monkeypatch):
    write_status(run_dir, "stopped", 1, 25000)
    (run_dir / "training-state-000001000.safetensors").touch()
    assert not end(run_dir, monkeypatch, is_finished=True, writes_status=False)


def fail(*_args, **_kwargs):
    raise UserError("no such snapshot")


def test_a_start_that_fails_leaves_no_folder(tmp_path, data, monkeypatch):
    monkeypatch.setattr(launch, "training_loop", fail)
    with pytest.raises(UserError, match="no such snapshot"):
        train_run(request(tmp_path, {"data": str(data)}))
    assert not list((tmp_path / "runs").iterdir())


def test_a_run_that_fails_later_keeps_its_folder(tmp_path, data, monkeypatch):
    def fail_later(run_dir, **_kwargs):
        (tmp_path / "runs" / "00000-cats-auto1" / "stats.jsonl").write_text("{}\n{}\n")
        fail()

    monkeypatch.setattr(launch, "training_loop", fail_later)
    with pytest.raises(UserError, match="no such snapshot"):
        train_run(request(tmp_path, {"data": str(data)}))
    assert (tmp_path / "runs" / "00000-cats-auto1" / "training_options.json").exists()


def test_a_second_ctrl_c(run_dir, monkeypatch, capsys):
    def interrupt(**_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "training_loop", interrupt)
    assert not train_run(request(run_dir.parent, continue_run=str(run_dir)))
    assert capsys.readouterr().out.endswith(f"the last checkpoint: python train.py --continue={run_dir}\n")


# Under torchrun


def test_the_number_of_processes_is_that_of_the_run(tmp_path, run_dir, monkeypatch):
    monkeypatch.setattr(launch.distributed, "world_from_env", lambda: World(0, 2, 0))
    monkeypatch.setattr(launch.distributed, "init_world", lambda *_args: None)
    with pytest.raises(UserError, match=f"{run_dir.name} is a run of 1 processes, got 2; start as many$"):
        train_run(request(tmp_path, continue_run=str(run_dir)))


# What a user may have changed


def test_flags_without_effect_are_named(run_dir, capsys):
    prepare_run(request(run_dir, continue_run=str(run_dir), outdir=run_dir.parent, given={"desc": "x"}))
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


# What is checked before anything is written


@pytest.mark.parametrize("is_dry_run", [True, False])
@pytest.mark.parametrize("outdir", ["cats.zip", "cats.zip/runs"])
def test_a_place_that_is_a_file(tmp_path, data, outdir, is_dry_run):
    with pytest.raises(UserError, match=r": Not a directory; choose a folder that can be written to$"):
        prepare_run(request(tmp_path, {"data": str(data)}, outdir=tmp_path / outdir, is_dry_run=is_dry_run))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"data": ""}, "--data is empty"),
        ({"map_depth": 100_000}, "'num_layers' is 100000, at most 256"),
        ({"glr": float("nan")}, "lr is nan, not a finite number"),
        ({"gamma": float("inf")}, "r1_gamma is inf, not a finite number"),
        ({"tick": 1e-320}, r"^the flags ask for what cannot be trained: .*; is a number such as --kimg or --tick"),
        ({"kimg": 10**400}, r"^the flags ask for what cannot be trained: .*; is a number such as --kimg or --tick"),
    ],
)
def test_flags_that_cannot_be_trained_with(tmp_path, data, flags, said):
    with pytest.raises(UserError, match=said):
        prepare_run(request(tmp_path, {"data": str(data), **flags}))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tick": math.inf}, r"^the flags ask for what cannot be trained: kimg_per_tick must be a positive number$"),
        ({"tick": math.nan}, r"^the flags ask for what cannot be trained: kimg_per_tick must be a positive number$"),
        ({"tick": 1e-320}, r"training_options\.json with the flags given now cannot be used: OverflowError"),
        ({"kimg": 10**400}, r"training_options\.json with the flags given now cannot be used: OverflowError"),
    ],
)
def test_flags_that_cannot_be_continued_with(run_dir, given, said):
    before = (run_dir / OPTIONS_FILE).read_bytes()
    with pytest.raises(UserError, match=said):
        continued(run_dir, given=given)
    assert (run_dir / OPTIONS_FILE).read_bytes() == before


def test_a_checkpoint_is_saved_sometime(tmp_path, data, run_dir):
    for changes in ({"flags": {"data": str(data)}}, {"continue_run": str(run_dir)}):
        with pytest.raises(UserError, match=r"^--state-minutes: state_interval_sec must be a non-negative number"):
            prepare_run(request(tmp_path, runtime={"state_interval_sec": math.nan}, **changes))


def test_as_many_processes_as_the_machine_can_run(tmp_path, data):
    with pytest.raises(UserError, match=r"^--gpus=5000: CPU cores"):
        train_run(request(tmp_path, {"data": str(data), "gpus": 5000, "batch": 5000}))
    assert not (tmp_path / "runs").exists()


def test_a_run_from_elsewhere_cannot_start_thousands_of_processes(run_dir):
    options = read_options(run_dir)
    write_options(run_dir, {**options, "num_gpus": 5000, "batch_size": 5000, "batch_gpu": 1})
    with pytest.raises(UserError, match=r"^--gpus=5000: CPU cores"):
        train_run(request(run_dir.parent, continue_run=str(run_dir)))


# Ends that are not planned


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nMore"), r"^out of memory \(CUDA out of memory\.\): stop other"),
        (OSError(28, "No space left on device", "/runs/x/log.txt"), "^training cannot go on: /runs/x/log.txt: No"),
    ],
)
def test_lack_of_memory_or_disk_space(tmp_path, data, monkeypatch, error, said):
    def loop(**_kwargs):
        raise error

    monkeypatch.setattr(launch, "training_loop", loop)
    with pytest.raises(UserError, match=said):
        train_run(request(tmp_path, {"data": str(data)}))
    assert not list((tmp_path / "runs").iterdir())


def test_a_disk_that_is_full_at_the_start(tmp_path, data, monkeypatch):
    def fail(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(launch, "write_options", fail)
    with pytest.raises(UserError, match=r"cannot be written to: No space left on device$"):
        prepare_run(request(tmp_path, {"data": str(data)}))
    assert not list((tmp_path / "runs").iterdir())


def test_ctrl_c_before_training_leaves_no_folder(tmp_path, data, monkeypatch):
    def interrupt(**_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "training_loop", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_run(request(tmp_path, {"data": str(data)}))
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize("is_dry_run", [True, False])
def test_other_images_are_refused_before_the_options_are_written(tmp_path, is_dry_run):
    data = write_dataset(tmp_path / "data.zip")
    run_dir = new_run(tmp_path / "run", tiny_options(data, 2 * 4))
    train_here(run_dir, read_options(run_dir))
    before = (run_dir / OPTIONS_FILE).read_bytes()
    other = write_folder(tmp_path / "other", {name: encode(random_image(99, (16, 16))) for name in images(24)})
    given = {"data": str(other), "kimg": 9}
    with pytest.raises(UserError, match=f"^--data={other} holds other images than the run began with, in {data}: give"):
        continued(run_dir, given=given, is_dry_run=is_dry_run)
    assert (run_dir / OPTIONS_FILE).read_bytes() == before
    moved = data.rename(tmp_path / "moved.zip")
    assert continued(run_dir, given={"data": str(moved), "kimg": 9}).kwargs["training_set_kwargs"]["path"] == str(moved)
