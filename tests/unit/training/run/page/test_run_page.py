"""The page of a run, and of several: complete, escaped, bounded, and made of whatever is there."""

import json
import math
import os
import re
import shlex
import signal

import filelock
import PIL.Image
import pytest
from PIL import Image

from dnnlib.errors import UserError
from tests.fake_run import write_run
from training.run.lock import lock_run
from training.run.names import find_grids
from training.run.page.next_commands import next_commands
from training.run.page.pictures import CACHE_FOLDER, describe_grid, sample_pictures, small_picture
from training.run.page.records import read_curves, read_records, updated_sec
from training.run.page.run_charts import MAX_METHOD_CHARTS
from training.run.page.run_page import MAX_RUNS, PAGE_FILE, run_page, write_comparison, write_run_page

CHECKPOINT = "training-state-000100000.safetensors"
RESUME = "Start another run from its networks (with its --cfg)"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("runs") / "00000-<b>cats & dogs", Loss__D__loss=200.0)
    (folder / CHECKPOINT).touch()
    return folder


@pytest.fixture(scope="module")
def page(run_dir):
    return write_run_page(run_dir).read_text()


def charts_of(page):
    found = re.findall(
        r'<figure class="chart"><figcaption>(.*?)</figcaption>.*?<script type="application/json">(.*?)</script>', page
    )
    return {title: json.loads(data) for title, data in found}


def test_sections(page):
    assert re.findall("<h2>(.*?)</h2>", page) == [
        *("Health", "Samples over time", "Scores", "Training", "Logits by scale", "Method"),
        *("What the samples are like", "Time and memory", "Commands", "Options"),
    ]
    assert "<h1>00000-&lt;b&gt;cats &amp; dogs</h1>" in page
    assert "<b>" not in page
    assert "<strong>Warning: </strong>training diverges: Loss/D/loss is 200, where" in page
    assert '<code class="flag">--glr</code>' in page
    assert "<dt>Images seen</dt><dd>100 of 100 thousand</dd>" in page


def test_charts(page):
    charts = charts_of(page)
    assert {"fid50k_full", "Losses", "Height 1", "Height 16", "Con/top1", "Memory"} < set(charts)
    assert [curve["label"] for curve in charts["Con/top1"]["curves"]] == ["height 1", "height 8", "height 16"]
    assert charts["fid50k_full"]["x"] == [25, 50, 75, 100]
    assert charts["fid50k_full"]["curves"][0]["y"] == [300, 150, 100, 75]
    assert [curve["label"] for curve in charts["Memory"]["curves"]] == ["of the process"]  # no GPU
    (real, _fake) = charts["Height 8"]["curves"]
    assert real["high"][0] - real["low"][0] == pytest.approx(0.6)
    assert len(charts["Losses"]["x"]) == 25


def test_long_runs_and_their_pace(tmp_path):
    """What snapshots and scores cost is part of the pace, however many ticks lie between them."""
    run_dir = write_run(tmp_path / "run", num_ticks=40, num_grids=10, kimg_per_tick=600)
    lines = [json.loads(line) for line in (run_dir / "stats.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines, 1):  # 15 s per kimg, and a day per snapshot, of which there are four
        line["Timing/total_sec"]["mean"] = 15 * 600 * number + 86400 * ((number - 1) // 10)
    (run_dir / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    records = read_records(run_dir, max_points=4)
    assert records.sec_per_kimg == pytest.approx(15 + 86400 / 6000, rel=0.01)
    assert [kimg for kimg, _value in records.scores["fid50k_full"]][-1] == 24000
    assert "<dd>24000 of 24000 thousand</dd>" in write_run_page(run_dir).read_text()


def test_large_numbers_are_written_out(run_dir):
    records = read_records(run_dir)
    records.curves["Timing/total_sec"].mean = [1040 * kimg for kimg in records.curves["Timing/total_sec"].kimg]
    records.best = {"snapshot": "network-snapshot-000100.pkl", "score": "fid", "value": 12345.6, "kimg": 12345.6}
    page = run_page([records])
    assert "<dd>1040 s per thousand images, snapshots and scores included</dd>" in page
    assert "<dd>network-snapshot-000100.pkl: fid 12346 at 12346 kimg</dd>" in page
    assert "<td>1040</td>" in run_page([records, records])


def test_the_time_left_of_a_run_of_a_given_time(run_dir):
    records = read_records(run_dir)
    spent_sec = records.curves["Timing/total_sec"].mean[-1]
    records.state = "running"
    records.options["time_limit_sec"] = spent_sec + 3600
    records.options["total_kimg"] = 1e6
    assert "<dt>Time left</dt><dd>1h 00m 00s of training</dd>" in run_page([records])


def test_commands_can_be_pasted(run_dir):
    found = dict(next_commands(read_records(run_dir)))
    assert shlex.split(found["Train further"])[-2:] == [f"--continue={run_dir}", "--kimg=202"]
    network = f"--network={run_dir}/network-snapshot-000100.pkl"
    assert network in shlex.split(found["Generate images"])
    assert shlex.split(found["Score"])[-2:] == [network, "--metrics=fid50k_full"]
    assert "All statistics" not in found
    (run_dir / "events.out.tfevents.1").touch()
    command = dict(next_commands(read_records(run_dir)))["All statistics"]
    assert shlex.split(command) == ["tensorboard", f"--logdir={run_dir}"]


def test_commands_follow_the_options_of_the_run(run_dir):
    records = read_records(run_dir)
    records.options.update(
        training_set_kwargs={"use_labels": True},
        metric_set_kwargs={"path": "held out.zip"},
        object_detector="scenes",
        time_limit_sec=3600,
        total_kimg=1e6,
    )
    records.total_kimg = records.kimg  # as planned when the time was over
    found = {what: shlex.split(command) for what, command in next_commands(records)}
    assert "--class=0" in found["Generate images"]
    assert found["Score"][-2:] == ["--metricdata=held out.zip", "--object-detector=scenes"]
    assert found["Train further"][-1] == "--time=2h"


def test_a_run_without_metrics_is_scored_by_a_cheap_one(run_dir):
    records = read_records(run_dir)
    records.options["metrics"] = []
    assert "--metrics=fd1k_efflite1" in dict(next_commands(records))["Score"]


def test_states_and_time_left(tmp_path):
    folder = write_run(tmp_path / "run")

    def state_and_facts(reason):
        status = {"reason": reason, "kimg": 100, "total_kimg": 300}
        (folder / "exit_status.json").write_text(json.dumps(status))
        records = read_records(folder)
        return records.state, dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", run_page([records])))

    assert state_and_facts("stopped")[0] == "stopped"
    state, facts = state_and_facts("running")  # but no process holds the lock
    assert state == "interrupted"
    assert facts["Time left"] == "50m 00s of training"  # a minute for each 4 of the 200 kimg
    assert "Time left" not in state_and_facts("finished")[1]


def state_and_commands(folder):
    records = read_records(folder)
    (state,) = re.findall("<dt>State</dt><dd>(.*?)</dd>", run_page([records]))
    return state, {what: shlex.split(command) for what, command in next_commands(records)}


def test_only_runs_with_a_checkpoint_can_be_continued(tmp_path):
    folder = write_run(tmp_path / "run", num_ticks=2, num_grids=1)
    (folder / "exit_status.json").write_text('{"reason": "stopped", "kimg": 8, "total_kimg": 16}')
    state, found = state_and_commands(folder)
    assert state == "stopped"
    assert "Continue" not in found
    data, resume = "--data=photos & <b>cats</b>.zip", f"--resume={folder / 'network-snapshot-000008.pkl'}"
    assert found[RESUME][-3:] == [f"--outdir={tmp_path}", data, resume]
    (folder / CHECKPOINT).touch()
    state, found = state_and_commands(folder)
    assert state == "stopped, and can be continued from its last checkpoint"
    assert found["Continue"][-1] == f"--continue={folder}"
    assert RESUME not in found


def test_a_run_of_stylegan2_ada(tmp_path):
    folder = write_run(tmp_path / "run", num_ticks=2, num_grids=1)
    (folder / "exit_status.json").unlink()
    options = {
        "run_dir": str(folder),
        "training_set_kwargs": {"path": "cats.zip", "use_labels": True},
        "G_kwargs": {"mapping_kwargs": {"num_layers": 8}, "synthesis_kwargs": {"channel_base": 32768}},
    }
    (folder / "training_options.json").write_text(json.dumps(options))
    state, found = state_and_commands(folder)
    assert state.startswith("unknown: ")
    assert not {"Continue", "Train further"} & found.keys()
    resume = f"--resume={folder / 'network-snapshot-000008.pkl'}"
    assert found[RESUME][-5:] == ["--data=cats.zip", "--cond=1", "--cbase=32768", "--map-depth=8", resume]
    (folder / "network-snapshot-000008.pkl").unlink()
    assert RESUME not in state_and_commands(folder)[1]


def test_a_running_run_of_another_user(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "run", num_ticks=2, num_grids=1)
    (folder / "exit_status.json").write_text('{"reason": "running"}')
    with lock_run(folder):
        assert "<dd>running</dd>" in run_page([read_records(folder)])

    def refuse(*_args, **_kwargs):
        raise PermissionError

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    records = read_records(folder)
    assert "<dd>running by its last report, which this user cannot check</dd>" in run_page([records])
    assert "<td>running by its last report</td>" in run_page([records, records])


def test_several_runs(tmp_path, run_dir):
    other = write_run(tmp_path / "00001-other", num_ticks=11, kimg_per_tick=5)
    write_comparison([run_dir, other], tmp_path / "comparison.html")
    page = (tmp_path / "comparison.html").read_text()
    assert "<h1>2 runs</h1>" in page
    assert "Samples of 00001-other" in page
    losses = charts_of(page)["Losses"]["curves"]
    names = [
        f"{run}, {kind}" for run in ("00000-<b>cats & dogs", "00001-other") for kind in ("generator", "discriminator")
    ]
    assert [curve["label"] for curve in losses] == names
    assert [(curve["color"], curve["dash"]) for curve in losses] == [(0, []), (0, [6, 4]), (1, []), (1, [6, 4])]
    assert len(set(re.findall(r'id="(slider-\d)"', page))) == 2


def test_many_runs_can_be_told_apart(tmp_path):
    runs = [write_run(tmp_path / str(i // 2) / f"0000{i % 2}", num_ticks=2, num_grids=1) for i in range(MAX_RUNS)]
    write_comparison(runs, tmp_path / "comparison.html")
    charts = charts_of((tmp_path / "comparison.html").read_text())
    scores, losses = charts["fid50k_full"]["curves"], charts["Losses"]["curves"]
    names = [f"{i // 2}/0000{i % 2}" for i in range(MAX_RUNS)]
    assert [curve["label"] for curve in scores] == names
    assert [curve["label"] for curve in losses[::2]] == [f"{name}, generator" for name in names]

    def looks(curves):
        return [(curve["color"], *curve["dash"]) for curve in curves]

    assert len(set(looks(losses))) == 2 * MAX_RUNS
    assert looks(scores) == looks(losses[::2])  # a run looks alike in all charts


def test_curves_are_thinned_by_averaging(tmp_path):
    lines = [
        {"Progress/kimg": {"num": 1, "mean": i, "std": 0}, "a": {"num": 1, "mean": 2 * i, "std": i}}
        for i in range(1, 11)
    ]
    lines[9]["a"]["mean"] = None
    lines[0]["b"] = {"num": 0, "mean": 7, "std": 0}
    (tmp_path / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"torn')
    curves = read_curves(tmp_path, 3)
    assert curves.keys() == {"Progress/kimg", "a"}
    assert curves["a"].kimg == [2, 5, 8]
    assert curves["a"].mean == [4, 10, 16]
    assert curves["a"].std == [2, 5, 8]
    assert len(read_curves(tmp_path, 300)["a"].mean) == 9


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(UserError, match="not a run folder that has finished a tick"):
        write_run_page(tmp_path)


@pytest.mark.parametrize("name", ["training_options.json", "exit_status.json", "metric-fid50k_full.jsonl", "reals.png"])
@pytest.mark.parametrize("content", [b"", b"\xff{[", b'{"a": {"b": 1}, "results": 3}\n', b"[1]"])
def test_damaged_files(tmp_path, name, content):
    folder = write_run(tmp_path / "run", num_ticks=2, num_grids=1)
    (folder / name).write_bytes(content)
    assert "<h2>Training</h2>" in write_run_page(folder).read_text()


def add_statistics(folder, values):
    statistics = {name: {"num": 1, "mean": value, "std": 0} for name, value in values.items()}
    lines = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    (folder / "stats.jsonl").write_text("".join(json.dumps({**line, **statistics}) + "\n" for line in lines))


def test_heights_of_thousands_of_digits(tmp_path):
    folder = write_run(tmp_path / "run", num_ticks=2, num_grids=1)
    digits = "9" * 5000
    add_statistics(folder, {f"A/b_h{digits}": 1, f"Loss/scores/real_h{digits}": 1, "A/b_h999999": 1})
    charts = charts_of(write_run_page(folder).read_text())
    assert [curve["label"] for curve in charts["A/b"]["curves"]] == ["height 999999"]
    assert not any(title.startswith("Height 9") for title in charts)


def test_the_number_of_charts_is_limited(tmp_path):
    folder = write_run(tmp_path / "run", num_ticks=2, num_grids=1)
    add_statistics(folder, {f"{name}{i}": 1 for i in range(100) for name in ("Loss/scores/real_h", "A/b")})
    charts = charts_of(write_run_page(folder).read_text())
    assert [title for title in charts if title.startswith("Height")] == [
        f"Height {i}" for i in range(MAX_METHOD_CHARTS)
    ]
    assert sum(title.startswith(("A/", "Con/")) for title in charts) == MAX_METHOD_CHARTS


def test_numbers_that_are_too_large(tmp_path):
    folder = write_run(tmp_path / "run", num_ticks=2, num_grids=1)
    best = {"snapshot": "a.pkl", "score": "fid", "value": 10**400, "kimg": 1}
    (folder / "best.json").write_text(json.dumps(best))
    (folder / "exit_status.json").write_text('{"reason": "stopped", "total_kimg": 300}')
    ticks = [{"Progress/kimg": 1e-300, "Timing/total_sec": 0}, {"Progress/kimg": 2e-300, "Timing/total_sec": 1e30}]
    lines = [{name: {"num": 1, "mean": value, "std": 0} for name, value in tick.items()} for tick in ticks]
    (folder / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = write_run_page(folder).read_text()
    assert "Best snapshot" not in page
    assert "Pace" not in page


@pytest.mark.parametrize("timestamp", [None, "yesterday", {}, 1e300, math.nan])
def test_times_that_are_none(tmp_path, timestamp):
    path = tmp_path / "stats.jsonl"
    path.write_text(json.dumps({"timestamp": timestamp}) + "\n")
    assert updated_sec(tmp_path) == path.stat().st_mtime


def test_large_options_are_not_read(tmp_path):
    folder = write_run(tmp_path / "run", num_ticks=2, num_grids=1)
    assert read_records(folder).resolution == 32
    options = (folder / "training_options.json").read_text()
    (folder / "training_options.json").write_text(options.ljust((1 << 20) + 1))
    assert read_records(folder).options == {}


@pytest.fixture
def fails_instead_of_waiting():
    def fail(*_):
        raise AssertionError("waits for a pipe")

    old = signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


PIPES = ("training_options.json", "exit_status.json", "best.json", "reals.png", f"{CACHE_FOLDER}/reals.webp")


@pytest.mark.usefixtures("fails_instead_of_waiting")
@pytest.mark.parametrize("name", PIPES)
def test_pipes_are_not_waited_for(tmp_path, name):
    folder = write_run(tmp_path / "run", num_ticks=2, num_grids=1)
    (folder / CACHE_FOLDER).mkdir()
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert "<h2>Training</h2>" in write_run_page(folder).read_text()


def test_grids_in_order(tmp_path):
    names = ["_init", "000000", "000001_500", "000001", "000001_G", "000200", "_other", "12"]
    for name in names:
        (tmp_path / f"fakes{name}.png").touch()
    assert [(describe_grid(name), path.stem) for name, path in find_grids(tmp_path)] == [
        ("before training", "fakes_init"),
        ("after 1 kimg, without averaging of weights", "fakes000001_G"),
        ("after 1.5 kimg", "fakes000001_500"),
        ("after 200 kimg", "fakes000200"),
    ]


def test_pictures_show_the_upper_left(tmp_path, run_dir):
    picture = small_picture(run_dir / "reals.png", 32, "reals")
    assert (picture.width_px, picture.height_px) == (14 * 32, 8 * 32)
    grid = Image.new("RGB", (2 * 512, 512), "red")
    grid.paste("blue", (512, 0, 1024, 512))
    grid.save(tmp_path / "fakes000001.png")
    picture = small_picture(tmp_path / "fakes000001.png", 512, "")
    assert (picture.width_px, picture.height_px) == (256, 128)
    assert small_picture(tmp_path / "missing.png", 32, "") is None


def test_pictures_are_kept_until_the_grid_changes(tmp_path, monkeypatch):
    path = tmp_path / "fakes000001.png"
    Image.new("RGB", (64, 64), "red").save(path)
    first = small_picture(path, 32, "")
    cached = tmp_path / CACHE_FOLDER / "fakes000001.webp"
    assert cached.read_bytes() == first.data
    cached.write_bytes(b"damaged")
    assert small_picture(path, 32, "").data == first.data
    Image.new("RGB", (1000, 10)).save(cached)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 4500)  # of which Pillow refuses twice as many
    assert small_picture(path, 32, "").data == first.data
    Image.new("RGB", (8, 8)).save(cached)
    assert small_picture(path, 32, "").width_px == 8  # the grid itself is not read
    os.utime(cached, (0, 0))
    assert small_picture(path, 32, "").data == first.data


def test_pictures_fit(run_dir):
    pictures = sample_pictures(run_dir, 32, 1 << 30)
    total = sum(len(picture.data) for picture in pictures)
    fewer = sample_pictures(run_dir, 32, total // 2)
    assert 1 < len(fewer) < len(pictures)
    assert sum(len(picture.data) for picture in fewer) <= total // 2
    assert (fewer[0].label, fewer[-1].label) == (pictures[0].label, pictures[-1].label)
    assert [picture.label for picture in sample_pictures(run_dir, 32, 1)] == ["after 100 kimg"]


def test_a_kill_leaves_the_old_page(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "run", num_ticks=2, num_grids=1)
    before = write_run_page(folder).read_bytes()
    monkeypatch.setattr("dnnlib.atomic.commit", lambda temp, path: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_run_page(folder)
    assert (folder / PAGE_FILE).read_bytes() == before
