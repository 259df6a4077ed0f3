"""The loop in this process, on the smallest networks."""

import contextlib
import errno
import itertools
import json
import re
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

import legacy
from dnnlib.errors import UserError
from metrics import metric_main
from tests.image_files import encode, random_image, write_zip
from tests.training_runs import (
    BATCH,
    everything_random,
    make_trainer,
    newest_state,
    read_stats,
    reproducible_stats,
    signal_in_iteration,
    states,
    ticks,
    tiny_options,
    train_here,
    write_dataset,
)
from training import checkpoint, training_loop
from training.ema import ema_beta
from training.loss import StyleGAN2Loss
from training.run import outputs
from training.run.health.history import MEASUREMENTS
from training.run.log import RunLog


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "data.zip")


@pytest.fixture
def options(data):
    """Five ticks: 1, 3, 3, 3 and 1 iterations."""
    return tiny_options(data, 44)


@pytest.fixture
def run_dir(tmp_path):
    return tmp_path / "run"


@contextlib.contextmanager
def open_trainer(run_dir, options):
    """A trainer to look at."""
    trainer = make_trainer(run_dir, options)
    yield trainer
    trainer.outputs.close()


def names(folder, pattern="*"):
    return sorted(path.name for path in folder.glob(pattern))


def test_ticks_and_what_they_leave_behind(run_dir, options):
    assert train_here(run_dir, options, image_snapshot_ticks=2, network_snapshot_ticks=3)
    assert [line["Progress/kimg"]["mean"] * 1000 for line in read_stats(run_dir)] == pytest.approx([4, 16, 28, 40, 44])
    assert ticks(run_dir) == [0, 1, 2, 3, 4]
    assert names(run_dir, "fakes0*") == [f"fakes000000{rest}.png" for rest in ("", "_028", "_044")]
    assert names(run_dir, "*.pkl") == [f"network-snapshot-000000{rest}.pkl" for rest in ("", "_040", "_044")]
    assert {"fakes_init.png", "reals.png"} < set(names(run_dir, "*.png"))
    assert json.loads((run_dir / "exit_status.json").read_text()) == {
        "reason": "finished",
        "kimg": 0.044,
        "total_kimg": 0.044,
        "name": "run",
    }


@pytest.mark.slow
def test_files_are_named_after_thousands_of_images(run_dir, data):
    """With the remainder only where two files would have the same name."""
    options = tiny_options(data, 2400, batch=400, batch_gpu=400, tick=0.8, aug="noaug")
    options.update(G_reg_interval=None, D_reg_interval=None)
    options["loss_kwargs"].update(pl_weight=0, r1_gamma=0)
    train_here(run_dir, options, image_snapshot_ticks=1, network_snapshot_ticks=2)
    assert names(run_dir, "fakes0*") == [f"fakes00000{kimg}.png" for kimg in ("0", "1", "2", "2_400")]
    assert names(run_dir, "*.pkl") == [f"network-snapshot-00000{kimg}.pkl" for kimg in ("0", "2", "2_400")]


def test_statistics_of_a_tick(run_dir, options):
    train_here(run_dir, options)
    lines = read_stats(run_dir)
    assert {name for line in lines for name in line} == {
        *(f"Progress/{name}" for name in ("tick", "kimg", "augment")),
        *(f"Timing/{name}" for name in ("Gmain", "Greg", "Dmain", "Dreg", "data_wait_frac")),
        *(f"Timing/{name}_sec" for name in ("total", "maintenance")),
        *(f"Timing/sec_per_{name}" for name in ("tick", "kimg")),
        *(f"Timing/total_{name}" for name in ("hours", "days")),
        *(f"Resources/{name}_gb" for name in ("cpu_mem", "peak_gpu_mem")),
        *(f"Loss/{name}" for name in ("scores/fake", "scores/real", "signs/fake", "signs/real")),
        *(f"Loss/{name}" for name in ("G/loss", "G/reg", "D/loss", "D/reg", "pl_penalty", "r1_penalty")),
        *(f"Health/nonfinite_grads/{name}" for name in ("Gmain", "Greg", "Dmain", "Dreg")),
        *("Health/skipped_images", "timestamp"),
    }
    assert all(line[name].keys() == {"num", "mean", "std"} for line in lines for name in line if name != "timestamp")
    assert [line["Loss/scores/real"]["num"] for line in lines] == [8, 12, 12, 12, 4]  # with R1 in the first iteration


def test_times_add_up(run_dir, options):
    train_here(run_dir, options)
    for line in read_stats(run_dir):
        time = {name.removeprefix("Timing/"): line[name]["mean"] for name in line if name.startswith("Timing/")}
        assert 0 < time["Gmain"] + time["Dmain"] < time["sec_per_tick"] < time["total_sec"]
        assert 0 <= time["data_wait_frac"] < 1
        assert time["total_hours"] == pytest.approx(time["total_sec"] / 3600)


@pytest.mark.slow
def test_regularization_is_lazy(run_dir, data, monkeypatch):
    phases = []
    accumulate = StyleGAN2Loss.accumulate_gradients

    def watch(self, phase, real_img, real_c, gen_z, gen_c, sync, gain):
        phases.append((phase, gain, sync))
        accumulate(self, phase, real_img, real_c, gen_z, gen_c, sync, gain)

    monkeypatch.setattr(StyleGAN2Loss, "accumulate_gradients", watch)
    train_here(run_dir, tiny_options(data, 17 * BATCH, batch_gpu=2))
    main, G_reg, D_reg = ["Gmain", "Dmain"], ["Gmain", "Greg", "Dmain"], ["Gmain", "Greg", "Dmain", "Dreg"]
    expected = [{0: D_reg, 4: G_reg, 8: G_reg, 12: G_reg, 16: D_reg}.get(i, main) for i in range(17)]
    assert [phase for phase, _gain, _sync in phases[::2]] == list(itertools.chain(*expected))
    assert {phase: gain for phase, gain, _sync in phases} == {"Gmain": 1, "Greg": 4, "Dmain": 1, "Dreg": 16}
    assert [sync for _phase, _gain, sync in phases[:4]] == [False, True, False, True]


def test_average_follows_the_generator(run_dir, options):
    """After the first iteration: G's weights lerped from those it began with, G's buffers copied."""
    trainer = make_trainer(run_dir, {**options, "total_kimg": 0.004, "ema_rampup": None})
    initial = {name: tensor.clone() for name, tensor in trainer.state.G.state_dict().items()}
    trainer.run()
    beta = ema_beta(BATCH, 0, options["ema_kimg"], None)
    for name, value in trainer.state.G_ema.named_parameters():
        expected = initial[name].lerp(trainer.state.G.get_parameter(name), 1 - beta)
        torch.testing.assert_close(value.detach(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(trainer.state.G_ema.mapping.w_avg, trainer.state.G.mapping.w_avg)


def test_augmentation_adapts_every_four_iterations(run_dir, data):
    trainer = make_trainer(run_dir, tiny_options(data, 44, aug="ada", target=0.0))
    seen = []
    update = trainer.state.ada.update

    def watch(batch_idx):
        before = float(trainer.state.augment_pipe.p)
        update(batch_idx)
        seen.append((batch_idx, float(trainer.state.augment_pipe.p) != before))

    trainer.state.ada.update = watch
    trainer.run()
    assert [batch_idx for batch_idx, _moved in seen] == list(range(1, 12))
    assert {batch_idx for batch_idx, moved in seen if moved} <= {4, 8}
    assert any(moved for _batch_idx, moved in seen)


def test_a_fixed_augmentation_stays(run_dir, data):
    train_here(run_dir, tiny_options(data, 44, aug="fixed", p=0.5))
    assert {line["Progress/augment"]["mean"] for line in read_stats(run_dir)} == {0.5}
    assert newest_state(run_dir)["/modules/augment_pipe/p"] == 0.5


def test_whoever_calls_is_told_and_asked(run_dir, options):
    told = []
    stop_after = iter([False, False, True])
    is_finished = train_here(
        run_dir, options, progress_fn=lambda *args: told.append(args), abort_fn=lambda: next(stop_after)
    )
    assert not is_finished
    assert told == [(4, 44), (16, 44), (28, 44)]
    assert states(run_dir)[-1].name == "training-state-000000028.safetensors"
    assert json.loads((run_dir / "exit_status.json").read_text())["reason"] == "stopped"


def outcome(run_dir):
    return newest_state(run_dir), reproducible_stats(run_dir)


def assert_equal_outcomes(run_dir, other_dir):
    (tensors, stats), (other_tensors, other_stats) = outcome(run_dir), outcome(other_dir)
    assert all(torch.equal(tensors[name], other_tensors[name]) for name in tensors)
    assert stats == other_stats


@pytest.mark.slow
def test_two_runs_are_equal_whatever_they_print(tmp_path, options, capsys):
    train_here(tmp_path / "a", options, progress="none")
    assert capsys.readouterr().out == ""
    train_here(tmp_path / "b", options, progress="plain")
    assert "tick 4 " in capsys.readouterr().out
    assert_equal_outcomes(tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
def test_grids_and_snapshots_do_not_matter(tmp_path, options):
    train_here(tmp_path / "a", options)
    train_here(tmp_path / "b", options, image_snapshot_ticks=1, network_snapshot_ticks=1)
    (tensors, stats), (other_tensors, other_stats) = outcome(tmp_path / "a"), outcome(tmp_path / "b")
    assert all(torch.equal(tensors[name], other_tensors[name]) for name in tensors)
    measured = [{name: line.pop(name, None) for name in MEASUREMENTS} for line in other_stats]  # on the grids
    assert stats == other_stats
    assert all(line["Health/diversity"] for line in measured[1:])


def test_the_seed_matters(tmp_path, data):
    for seed in (0, 1):
        train_here(tmp_path / str(seed), tiny_options(data, 8, seed=seed))
    first, second = (newest_state(tmp_path / str(seed)) for seed in (0, 1))
    assert not torch.equal(first["/modules/G/synthesis.b4.const"], second["/modules/G/synthesis.b4.const"])
    assert not torch.equal(first["/batches/items"], second["/batches/items"])


def test_the_grid_of_real_images(run_dir, data, options):
    train_here(run_dir, {**options, "total_kimg": 0.004})
    with open_trainer(run_dir.with_name("other"), options) as trainer:
        dataset = [image for image, _label in trainer.state.training_set]
    pixels = np.asarray(Image.open(run_dir / "reals.png"))
    columns, rows = 4, 3
    assert pixels.shape == (rows * 16, columns * 16, 3)
    images = pixels.reshape(rows, 16, columns, 16, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, 16, 16)
    assert all(any(np.array_equal(image, other) for other in dataset) for image in images)


def assert_shows(path, generator, z):
    """The samples of a generator, with fixed noise."""
    images = generator(z, torch.zeros([12, 0]), noise_mode="const")
    expected = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).reshape(3, 4, 3, 16, 16)
    pixels = np.asarray(Image.open(path))
    assert np.abs(pixels - expected.permute(0, 3, 1, 4, 2).reshape(48, 64, 3).numpy().astype(int)).max() <= 1


def test_samples_are_those_of_the_average(run_dir, options):
    train_here(run_dir, {**options, "total_kimg": 0.004}, image_snapshot_ticks=1, network_snapshot_ticks=1)
    with open(run_dir / "network-snapshot-000000.pkl", "rb") as file:
        G_ema = legacy.load_network_pkl(file)["G_ema"]
    assert_shows(run_dir / "fakes000000.png", G_ema, newest_state(run_dir)["/grid/z"])


def test_as_long_as_the_average_shows_little_there_are_samples_of_g(run_dir, options):
    """Of a half-life of 16 images until 16 images have been seen, without a ramp that would shorten it."""
    options = {**options, "total_kimg": 0.016, "ema_kimg": 0.016, "ema_rampup": None, "image_snapshot_ticks": 1}
    trainer = make_trainer(run_dir, options)
    trainer._is_aborted = lambda: True  # after the first tick
    assert not trainer.run()
    assert_shows(run_dir / "fakes000000_G.png", trainer.state.G.eval(), newest_state(run_dir)["/grid/z"])
    train_here(run_dir, options)
    assert names(run_dir, "fakes0*_G.png") == ["fakes000000_G.png"]
    assert names(run_dir, "fakes0*") == ["fakes000000.png", "fakes000000_016.png", "fakes000000_G.png"]


def test_a_snapshot_holds_what_was_trained(run_dir, data):
    train_here(run_dir, tiny_options(data, 16, **everything_random()), network_snapshot_ticks=50)
    with open(run_dir / "network-snapshot-000000_016.pkl", "rb") as file:
        snapshot = legacy.load_network_pkl(file)
    tensors = newest_state(run_dir)
    for name in ("G", "D", "G_ema", "augment_pipe"):
        for key, value in snapshot[name].state_dict().items():
            assert torch.equal(value, tensors[f"/modules/{name}/{key}"])
    assert snapshot["training_set_kwargs"]["path"] == str(data)


@pytest.fixture(scope="module")
def snapshot(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "run"
    train_here(folder, tiny_options(data, 8, aug="noaug"), network_snapshot_ticks=50)
    return folder / "network-snapshot-000000.pkl"


def test_networks_come_from_a_snapshot(run_dir, data, snapshot):
    options = tiny_options(data, 8, resume=str(snapshot), seed=5)
    with open(snapshot, "rb") as file:
        source = legacy.load_network_pkl(file)
    with open_trainer(run_dir, options) as trainer:
        for name in ("G", "D", "G_ema"):
            tensors = getattr(trainer.state, name).state_dict()
            assert all(torch.equal(tensors[key], value) for key, value in source[name].state_dict().items())
        assert trainer.counters.cur_nimg == 0


def test_new_labels_leave_the_other_weights(run_dir, data, snapshot):
    """The mapping network has an embedding more, and its first layer is wider: that one does not fit."""
    with pytest.raises(UserError, match=r"^--resume=.*: G: 'mapping.fc0.weight' is \[8, 8\] in the snapshot and"):
        make_trainer(run_dir, tiny_options(data, 8, resume=str(snapshot), cond=True))


def test_continuing_a_transfer_does_not_need_the_snapshot(run_dir, tmp_path, data, snapshot):
    copy = tmp_path / "source.pkl"
    copy.write_bytes(snapshot.read_bytes())
    options = tiny_options(data, 24, resume=str(copy))
    with signal_in_iteration(3):
        train_here(run_dir, options)
    copy.unlink()
    assert train_here(run_dir, options)


def test_a_file_that_is_no_snapshot(run_dir, data):
    with pytest.raises(UserError, match=re.escape(str(data))):
        make_trainer(run_dir, tiny_options(data, 8, resume=str(data)))


@pytest.mark.parametrize(("interval_sec", "nimgs"), [(0, [40, 44]), (1e9, [4, 44])])
def test_states_are_saved_at_the_end_of_ticks_but_not_too_often(run_dir, options, interval_sec, nimgs):
    train_here(run_dir, options, state_interval_sec=interval_sec)
    assert names(run_dir, "*.safetensors") == [f"training-state-{nimg:09d}.safetensors" for nimg in nimgs]


def test_a_finished_run_has_nothing_left_to_do(run_dir, options):
    train_here(run_dir, options)
    before = {path.name: path.read_bytes() for path in run_dir.glob("*.*") if "tfevents" not in path.name}
    assert train_here(run_dir, options)
    assert before == {path.name: path.read_bytes() for path in run_dir.glob("*.*") if "tfevents" not in path.name}


def test_a_finished_run_can_be_made_longer(run_dir, options):
    train_here(run_dir, options)
    assert train_here(run_dir, {**options, "total_kimg": 0.06})
    assert ticks(run_dir) == list(range(7))
    assert states(run_dir)[-1].stem.endswith("60")


@pytest.mark.slow
def test_a_damaged_state_is_set_aside_and_the_one_before_it_used(tmp_path, options, capsys):
    train_here(tmp_path / "whole", options, state_interval_sec=0)
    run_dir = tmp_path / "damaged"
    train_here(run_dir, options, state_interval_sec=0)
    newest = states(run_dir)[-1]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 4
    newest.write_bytes(content)
    assert train_here(run_dir, options, progress="plain")
    output = capsys.readouterr().out
    assert f"{newest.name}.damaged, trying the checkpoint before it" in output
    assert "Continuing from training-state-000000040.safetensors: 0.0 kimg done" in output
    assert ticks(run_dir) == [0, 1, 2, 3, 4]
    assert_equal_outcomes(run_dir, tmp_path / "whole")


def test_nothing_but_damaged_states(run_dir, options):
    train_here(run_dir, options, state_interval_sec=0)
    for path in states(run_dir):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"^no intact checkpoint is left in "):
        make_trainer(run_dir, options)


def test_leftovers_of_a_killed_process_go(run_dir, options):
    run_dir.mkdir()
    (run_dir / ".training-state-000000004.safetensors.0a1b2c3d.tmp").touch()
    train_here(run_dir, {**options, "total_kimg": 0.004})
    assert not names(run_dir, ".*.tmp")


def test_the_number_of_processes_cannot_change(run_dir, options):
    train_here(run_dir, {**options, "total_kimg": 0.004})
    path = states(run_dir)[-1]
    tree = checkpoint.load_checkpoint(path)
    checkpoint.save_checkpoint(run_dir, 4, {**tree, "num_gpus": 8})
    with pytest.raises(UserError, match=f"{path.name}: was written with --gpus=8; continue with as many processes$"):
        make_trainer(run_dir, options)


def test_the_dataset_cannot_change(run_dir, tmp_path, data, options):
    train_here(run_dir, {**options, "total_kimg": 0.004})
    other = write_dataset(tmp_path / "other.zip", num=9)
    with pytest.raises(UserError, match=r"dataset of 24 images, this one has 9; .*began with$"):
        make_trainer(run_dir, {**options, "training_set_kwargs": tiny_options(other, 4)["training_set_kwargs"]})


def unpacked(path, folder, **changed):
    """A zip as a folder, some files with other contents."""
    with zipfile.ZipFile(path) as file:
        file.extractall(folder)
    for name, data in changed.items():
        next(folder.rglob(f"{name}.*")).write_bytes(data)
    return folder


def at(options, path):
    return {**options, "training_set_kwargs": {**options["training_set_kwargs"], "path": str(path)}}


@pytest.mark.slow
def test_a_dataset_may_be_unpacked_and_packed_again(run_dir, tmp_path, data, options):
    folder = unpacked(data, tmp_path / "folder")
    (folder / ".DS_Store").touch()
    for path, nimg in ((data, 4), (folder, 16), (data, 28), (folder, 40)):
        assert train_here(run_dir, {**at(options, path), "total_kimg": nimg / 1000})
    assert train_here(tmp_path / "whole", options | {"total_kimg": 0.04})
    assert all(map(torch.equal, newest_state(run_dir).values(), newest_state(tmp_path / "whole").values()))


@pytest.mark.parametrize("is_folder", [False, True])
@pytest.mark.parametrize("was_folder", [False, True])
def test_images_under_the_same_names_cannot_change(run_dir, tmp_path, data, options, was_folder, is_folder):
    before = unpacked(data, tmp_path / "before") if was_folder else data
    train_here(run_dir, {**at(options, before), "total_kimg": 0.004})
    changed = unpacked(data, tmp_path / "after", **{"007": encode(random_image(99, (16, 16)))})
    files = {str(path.relative_to(changed)): path.read_bytes() for path in changed.rglob("*.*")}
    after = changed if is_folder else write_zip(tmp_path / "after.zip", files)
    with pytest.raises(UserError, match=rf"the images in {after} have changed since it was saved; restore them, or"):
        make_trainer(run_dir, at(options, after))


def test_settings_that_have_changed_are_named(run_dir, options, capsys):
    train_here(run_dir, {**options, "total_kimg": 0.004, "progress": "plain"})
    assert "have changed" not in capsys.readouterr().out
    train_here(run_dir, {**options, "total_kimg": 0.008, "ada_interval": 2, "progress": "plain"})
    assert (
        "Note: Settings that have changed since the checkpoint: ada_interval 4 -> 2, total_kimg 0.004 -> 0.008\n"
        in (capsys.readouterr().out)
    )


class Poisoned(StyleGAN2Loss):
    """Puts numbers that are not finite into gradients or weights."""

    where = ""

    def accumulate_gradients(self, phase, *args, **kwargs):
        super().accumulate_gradients(phase, *args, **kwargs)
        if self.where == "gradients" and phase == "Gmain":
            self.G_synthesis.b4.const.grad[0, 0, 0] = float("nan")
            self.G_synthesis.b4.const.grad[1, 0, 0] = float("-inf")
        if self.where == "weights" and phase == "Dmain":
            self.D.b4.fc.weight.data[0, 0] = float("nan")


def poisoned(options, where, monkeypatch):
    monkeypatch.setattr(Poisoned, "where", where)
    monkeypatch.setattr(training_loop, "Poisoned", Poisoned, raising=False)
    return {**options, "loss_kwargs": {**options["loss_kwargs"], "class_name": "training.training_loop.Poisoned"}}


def test_gradients_that_are_not_finite_are_counted_and_removed(run_dir, options, monkeypatch):
    assert train_here(run_dir, poisoned(options, "gradients", monkeypatch))
    counts = [line["Health/nonfinite_grads/Gmain"] for line in read_stats(run_dir)]
    assert [(count["num"], count["mean"]) for count in counts] == [(1, 2), (3, 2), (3, 2), (3, 2), (1, 2)]
    assert {line["Health/nonfinite_grads/Dmain"]["mean"] for line in read_stats(run_dir)} == {0}
    assert all(tensor.isfinite().all() for tensor in newest_state(run_dir).values())


def test_weights_that_are_not_finite_are_never_saved(run_dir, options, monkeypatch, capsys):
    with signal_in_iteration(3):
        train_here(run_dir, options, state_interval_sec=0)
    before = {path.name: path.read_bytes() for path in states(run_dir)}
    with pytest.raises(UserError, match=r"training has ended without a checkpoint: the weights are not finite$"):
        train_here(run_dir, poisoned(options, "weights", monkeypatch), state_interval_sec=0, progress="plain")
    assert {path.name: path.read_bytes() for path in states(run_dir)} == before
    assert capsys.readouterr().out.count("The weights are not finite: no checkpoint written") == 4


def test_a_full_disk_does_not_end_a_run(run_dir, options, monkeypatch, capsys):
    def no_space(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with signal_in_iteration(3):
        train_here(run_dir, options, state_interval_sec=0)
    before = {path.name: path.read_bytes() for path in states(run_dir)}
    for name in ("save_image_grid", "save_snapshot", "write_status"):
        monkeypatch.setattr(outputs, name, no_space)
    monkeypatch.setattr(checkpoint, "save_file", no_space)
    monkeypatch.setattr(RunLog, "write", no_space)
    more = {"state_interval_sec": 0, "image_snapshot_ticks": 2, "network_snapshot_ticks": 2}
    with pytest.raises(UserError, match=r"training has ended without a checkpoint: .*No space left on device$"):
        train_here(run_dir, options, progress="plain", **more)
    assert {path.name: path.read_bytes() for path in states(run_dir)} == before
    # Once each: the statistics of a tick, a checkpoint, two grids, a snapshot, the status.
    assert capsys.readouterr().out.count("Not written, training goes on: [Errno 28] No space left on device") == 6


@pytest.mark.parametrize(("failures", "nimgs"), [(1, [16, 44]), (2, [28, 44])])
def test_a_state_that_is_not_written_is_tried_again_in_the_next_tick(
    run_dir, options, monkeypatch, capsys, failures, nimgs
):
    attempts, save = itertools.count(), checkpoint.save_file

    def save_later(*args, **kwargs):
        if next(attempts) < failures:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(*args, **kwargs)

    monkeypatch.setattr(checkpoint, "save_file", save_later)
    assert train_here(run_dir, options, state_interval_sec=1e9, progress="plain")
    assert [int(path.stem[-9:]) for path in states(run_dir)] == nimgs
    assert capsys.readouterr().out.count("Not written, training goes on: ") == 1


def test_a_damaged_image_is_replaced_reported_and_counted(run_dir, tmp_path, capsys):
    """One in a thousand is allowed; the sample grid, of other images, does not meet it."""
    names = [f"{i // 100}/{i:04d}.png" for i in range(1000)]
    files = dict.fromkeys(names, encode(random_image(size=(16, 16))))
    options = tiny_options(write_zip(tmp_path / "data.zip", files), 44)
    with open_trainer(tmp_path / "look", options) as trainer:
        index = next(iter(trainer.state.batches._sampler))
    files[names[index]] = files[names[index]][:-40]
    write_zip(tmp_path / "data.zip", files)
    assert train_here(run_dir, options)
    lines = [line["Health/skipped_images"] for line in read_stats(run_dir)]
    assert {line["mean"] for line in lines} == {1}
    assert f"Skipping image {index} of data: {names[index]}" in capsys.readouterr().err


@pytest.fixture
def metrics(monkeypatch):
    monkeypatch.setattr(metric_main, "_metrics", dict(metric_main._metrics))

    @metric_main.register_metric
    def weights(opts):
        torch.randn(3)  # a metric may draw what it likes
        return {"weights": float(opts.G.synthesis.b4.const.sum())}

    @metric_main.register_metric
    def broken(opts):
        raise ZeroDivisionError("no images")


@pytest.mark.usefixtures("metrics")
def test_metrics_at_their_own_cadence_without_tick_0(run_dir, options, capsys):
    assert train_here(run_dir, options, metrics=["broken", "weights"], metrics_ticks=2, progress="plain")
    results = [json.loads(line) for line in (run_dir / "metric-weights.jsonl").read_text().splitlines()]
    assert [line["snapshot_pkl"] for line in results] == [None, None]
    assert capsys.readouterr().out.count("Metric broken failed: ZeroDivisionError: no images") == 2
    final = newest_state(run_dir)["/modules/G_ema/synthesis.b4.const"].sum()
    assert results[-1]["results"]["weights"] == pytest.approx(float(final))


@pytest.mark.usefixtures("metrics")
def test_scores_belong_to_snapshots(run_dir, options):
    assert train_here(run_dir, options, metrics=["weights"], metrics_ticks=1, network_snapshot_ticks=3)
    results = [json.loads(line) for line in (run_dir / "metric-weights.jsonl").read_text().splitlines()]
    assert [line["snapshot_pkl"] for line in results] == sorted(names(run_dir, "network-snapshot-0*.pkl"))[1:]


def test_the_unit_of_steps_in_event_files_stays(run_dir, options):
    """Steps that counted images and then thousands of them would hide what was there before."""
    with signal_in_iteration(3):
        train_here(run_dir, options)
    assert train_here(run_dir, options, kimg_per_tick=4)
    with open_trainer(run_dir, options) as trainer:
        assert trainer.counters.steps_per_kimg == 1000


@pytest.mark.usefixtures("metrics")
def test_a_state_is_saved_before_metrics(run_dir, options, monkeypatch):
    """They may take longer than whoever stops a run is ready to wait."""
    saved = []
    run = training_loop.Evaluation.run
    monkeypatch.setattr(
        training_loop.Evaluation,
        "run",
        lambda *args, **kwargs: (saved.append(states(run_dir)[-1].stem[-2:]), run(*args, **kwargs))[1],
    )
    train_here(run_dir, options, metrics=["weights"], metrics_ticks=2, state_interval_sec=1e9)
    assert saved == ["28", "44"]


def test_metrics_without_their_networks_are_left_out(run_dir, options, monkeypatch, capsys):
    monkeypatch.setattr(
        metric_main, "find_weights", lambda *_args, **_kwargs: (_ for _ in ()).throw(UserError("get them"))
    )
    assert train_here(run_dir, options, metrics=["fid50k_full"], metrics_ticks=1, progress="plain")
    assert "Metric fid50k_full is switched off: get them" in capsys.readouterr().out
    assert not names(run_dir, "metric-*")


@pytest.mark.parametrize(("progress", "line"), [("plain", "Still preparing training ..."), ("none", None)])
def test_a_long_preparation_shows_signs_of_life(run_dir, options, monkeypatch, progress, line):
    said = []

    @contextlib.contextmanager
    def heartbeat(describe):
        said.append(describe())
        yield

    monkeypatch.setattr(training_loop, "heartbeat", heartbeat)
    train_here(run_dir, options, progress=progress)
    assert said == [line]
