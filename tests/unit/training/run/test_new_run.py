import pytest

from dnnlib.errors import UserError
from tests.image_files import encode, images, random_image, write_folder
from tests.training_runs import write_dataset
from tests.unit.training.run.launch_requests import continued, request
from training.run import new_run, options_file
from training.run.flags import Flags
from training.run.launch import prepare_run, train_run
from training.run.options import session_options
from training.run.options_file import read_options


def test_a_new_run_has_a_folder_with_its_options(tmp_path, data):
    plan = prepare_run(request(tmp_path, {"data": str(data), "cond": True}))
    assert plan.run_dir == tmp_path / "runs" / "00000-cats-cond-auto1"
    assert [path.name for path in plan.run_dir.iterdir()] == ["training_options.json"]
    assert plan.kwargs == {**read_options(plan.run_dir), **session_options(Flags(progress="none"))}
    assert plan.kwargs["training_set_kwargs"]["use_labels"]


def test_the_place_of_the_data_is_absolute(tmp_path, data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert prepare_run(request(tmp_path, {"data": data.name})).kwargs["training_set_kwargs"]["path"] == str(data)


def test_what_is_printed(tmp_path, data, capsys):
    run_dir = prepare_run(request(tmp_path, {"data": str(data), "cond": True})).run_dir
    text = capsys.readouterr().out
    assert "24 of 16 px, 3 classes with 8 images each" in text
    assert text.endswith(f"Run folder: {run_dir} (options in {run_dir}/training_options.json)\n")


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


@pytest.mark.parametrize(
    ("detector", "said"), [("bogus", "no object detector 'bogus': "), ("no.onnx", "no.onnx: there is no such file")]
)
def test_a_detector_that_does_not_exist(tmp_path, data, detector, said):
    with pytest.raises(UserError, match=said):
        prepare_run(request(tmp_path, {"data": str(data), "object_detector": detector}, dry_run=True))


def test_images_that_are_too_small_are_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(new_run, "describe_choice", lambda *args: pytest.fail("estimates"))
    data = write_folder(tmp_path / "icons", images(3, size=(4, 4)))
    with pytest.raises(UserError, match="images of 4 px are too small: training needs 8 or more"):
        prepare_run(request(tmp_path, {"data": str(data)}))


def test_a_metric_that_does_not_exist(tmp_path, data):
    with pytest.raises(UserError, match=r"there is no metric 'fid5k'; choose from fid50k_full, .*, or none$"):
        prepare_run(request(tmp_path, {"data": str(data), "metrics": ("fid50k_full", "fid5k")}))


@pytest.fixture
def photos(tmp_path):
    return write_folder(
        tmp_path / "photos", {f"{side}.png": encode(random_image(size=(side, 20))) for side in (17, 20)}
    )


def test_photographs_are_prepared_beside_the_runs(tmp_path, photos):
    plan = prepare_run(request(tmp_path, {"data": str(photos)}, size=16))
    assert plan.run_dir.name == "00000-photos-16px-auto1"
    assert plan.kwargs["training_set_kwargs"]["path"] == str(tmp_path / "runs/datasets/photos-16px.zip")
    # The flags of the first part, given again, lead to the prepared images.
    kwargs = continued(plan.run_dir, given={"data": str(photos), "size": 16}).kwargs
    assert kwargs["training_set_kwargs"] == plan.kwargs["training_set_kwargs"]


def test_photographs_in_the_current_folder(tmp_path, photos, monkeypatch):
    monkeypatch.chdir(photos)
    plan = prepare_run(request(tmp_path, {"data": "."}, size=16))
    assert continued(plan.run_dir).kwargs["training_set_kwargs"] == plan.kwargs["training_set_kwargs"]


def test_a_dataset_of_the_wanted_size_is_not_prepared_again(tmp_path, data):
    plan = prepare_run(request(tmp_path, {"data": str(data)}, size=16))
    assert plan.kwargs["training_set_kwargs"]["path"] == str(data)


def test_a_dry_run_prepares_nothing(tmp_path, photos, capsys):
    train_run(request(tmp_path, {"data": str(photos)}, size=16, dry_run=True))
    assert "Images:     2 of 16 px, no labels" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"resume": "absent.pkl"}, "--resume=absent.pkl: no such file or folder; give a snapshot"),
        (
            {"metricdata": "absent", "metrics": ("fid50k",)},
            "--metricdata=absent: no such file or folder; give a folder",
        ),
    ],
)
def test_a_typo_is_told_before_photographs_are_prepared(tmp_path, photos, flags, said):
    with pytest.raises(UserError, match=f"^{said}"):
        prepare_run(request(tmp_path, {"data": str(photos), **flags}, size=16))
    assert not (tmp_path / "runs").exists()


def test_images_for_metrics_are_opened_before_anything_is_estimated(tmp_path, data, monkeypatch):
    flags = {"data": str(data), "metrics": ("fid50k",), "metricdata": str(tmp_path / "wide.zip")}
    write_dataset(tmp_path / "wide.zip", resolution=32)
    monkeypatch.setattr(new_run, "describe_choice", None)  # must not be called
    with pytest.raises(UserError, match=r"^--metricdata: .* asked for resolution 16"):
        prepare_run(request(tmp_path, flags))


def test_labels_are_missed_before_photographs_are_prepared(tmp_path, photos):
    with pytest.raises(
        UserError, match=r"^--cond=1 needs labels, but .*photos has neither folders of classes nor a data"
    ):
        prepare_run(request(tmp_path, {"data": str(photos), "cond": True}, size=16))
    assert not (tmp_path / "runs").exists()


def test_photographs_without_a_size(tmp_path, photos):
    with pytest.raises(UserError, match=r"; or add --size=16, and they are prepared first$"):
        prepare_run(request(tmp_path, {"data": str(photos)}))


def test_a_machine_without_a_gpu_trains_small_networks(tmp_path, data, capsys):
    plan = prepare_run(request(tmp_path, {"data": str(data), "explicit": frozenset()}))
    assert plan.run_dir.name == "00000-cats-auto1-small"
    assert "Chosen:     --small" in capsys.readouterr().out
    assert prepare_run(request(tmp_path, {"data": str(data)})).run_dir.name == "00001-cats-auto1"


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
        with pytest.raises(UserError, match=f"^--outdir={outdir} is inside --{flag}={folder}, so generated"):
            prepare_run(request(tmp_path, flags, outdir=outdir))


def test_folders_of_classes_that_have_the_size_already(tmp_path):
    files = images(4, size=(16, 16))
    folder = write_folder(
        tmp_path / "photos", {f"{'ab'[i % 2]}/{name}": file for i, (name, file) in enumerate(files.items())}
    )
    flags = {"data": str(folder), "cond": True}
    plan = prepare_run(request(tmp_path, flags, size=16))
    assert plan.kwargs["training_set_kwargs"]["path"] == str(tmp_path / "runs/datasets/photos-16px.zip")
    assert plan.kwargs["training_set_kwargs"]["use_labels"]


def test_a_generator_alone_is_nothing_to_resume_from(tmp_path, data):
    with pytest.raises(UserError, match=r"^--resume=scenes32 is a folder without snapshots; give a snapshot"):
        prepare_run(request(tmp_path, {"data": str(data), "resume": "scenes32"}))


@pytest.mark.parametrize("is_dry_run", [True, False])
@pytest.mark.parametrize("outdir", ["cats.zip", "cats.zip/runs"])
def test_a_place_that_is_a_file(tmp_path, data, outdir, is_dry_run):
    with pytest.raises(UserError, match=r": Not a directory; choose a folder that can be written to$"):
        prepare_run(request(tmp_path, {"data": str(data)}, outdir=tmp_path / outdir, dry_run=is_dry_run))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"data": ""}, "--data is empty"),
        ({"map_depth": 100_000}, "'num_layers' is 100000, at most 256"),
        ({"glr": float("nan")}, "lr is nan, not a finite number"),
        ({"gamma": float("inf")}, "r1_gamma is inf, not a finite number"),
        ({"tick": 1e-320}, r"^invalid flags: .*; is a number such as --kimg or --tick"),
        (
            {"kimg": 10**400},
            r"^invalid flags: total_kimg is 10{96}\.\.\., but must be a non-negative number up to 1e\+15",
        ),
        ({"batch": 10**12}, "^invalid flags: batch_size is 1000000000000, but must be a positive number up to 1048576"),
    ],
)
def test_flags_that_cannot_be_trained_with(tmp_path, data, flags, said):
    with pytest.raises(UserError, match=said):
        prepare_run(request(tmp_path, {"data": str(data), **flags}))
    assert not (tmp_path / "runs").exists()


def test_a_disk_that_is_full_at_the_start(tmp_path, data, monkeypatch):
    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(options_file, "write_json", fail)
    with pytest.raises(UserError, match=r"cannot be written to: No space left on device$"):
        prepare_run(request(tmp_path, {"data": str(data)}))
    assert not list((tmp_path / "runs").iterdir())


def test_images_for_metrics_need_the_labels_of_a_conditional_run(tmp_path, data):
    other = write_folder(tmp_path / "other", images(8, size=(16, 16)))
    flags = {"data": str(data), "metricdata": str(other), "metrics": ("fd1k_efflite1",)}
    with pytest.raises(UserError, match="--metricdata: other has labels of width 0, but the generator is conditional"):
        prepare_run(request(tmp_path, {**flags, "cond": True}))
    prepare_run(request(tmp_path, {**flags, "cond": False}))
