import os
import re
from pathlib import Path

import pytest

from dnnlib.errors import UserError
from tests.fake_run import stats_line
from tests.processes import fork_server
from training.run import folder as run_folder
from training.run.folder import (
    RunState,
    check_files,
    find_run_dir,
    find_state,
    has_progress,
    make_run_dir,
    read_spent_sec,
    refuse_to_start_over,
)
from training.run.lock import lock_run
from training.run.options_file import OPTIONS_FILE, write_options
from training.run.status import STATUS_FILE, write_status


def test_numbers_follow_each_other(tmp_path):
    outdir = tmp_path / "new" / "runs"
    assert [make_run_dir(outdir, name).name for name in ("cats-auto1", "dogs-auto1")] == [
        "00000-cats-auto1",
        "00001-dogs-auto1",
    ]
    assert all(path.is_dir() for path in outdir.iterdir())


def test_the_next_number_is_beyond_all_others(tmp_path):
    for name in ("00004-x", "00100-y", "99", "notes-00200"):
        (tmp_path / name).mkdir()
    (tmp_path / "00300-file").touch()
    assert make_run_dir(tmp_path, "z").name == "00101-z"


def make(outdir, start, number):
    start.wait()
    make_run_dir(outdir, f"run{number % 2}")


@pytest.mark.slow
def test_eight_that_start_at_once_get_eight_numbers(tmp_path):
    context = fork_server()
    start = context.Barrier(8)
    processes = [context.Process(target=make, args=(tmp_path, start, number)) for number in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len({path.name[:5] for path in tmp_path.iterdir()}) == 8
    assert len(list(tmp_path.iterdir())) == 8


def test_a_number_that_another_takes_meanwhile(tmp_path, monkeypatch):
    """Between looking and making, another run makes a folder with the same number: ours gives way."""
    numbered_folders = run_folder._numbered_folders

    def look_late(outdir):
        found = numbered_folders(outdir)
        (tmp_path / "00000-other").mkdir(exist_ok=True)
        return found

    monkeypatch.setattr(run_folder, "_numbered_folders", look_late)
    assert make_run_dir(tmp_path, "ours").name == "00001-ours"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000-other", "00001-ours"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=rf"^--outdir={re.escape(str(tmp_path))}/file/runs: Not a directory; choose"):
        make_run_dir(tmp_path / "file" / "runs", "x")


def run(outdir, name):
    path = outdir / name
    path.mkdir()
    write_options(path, {"num_gpus": 1})
    return path


def test_a_run_by_its_folder(tmp_path):
    path = run(tmp_path, "anything")
    assert find_run_dir(str(path), None) == path


def test_the_latest(tmp_path):
    for name in ("00002-a", "00010-b", "00009-c"):
        run(tmp_path, name)
    (tmp_path / "00011-empty").mkdir()
    assert find_run_dir("latest", tmp_path).name == "00010-b"


def trained(path):
    (path / "training-state-000000004.safetensors").touch()
    return path


def test_the_latest_is_one_that_trained(tmp_path):
    trained(run(tmp_path, "00002-a"))
    trained(run(tmp_path, "00010-b"))
    run(tmp_path, "00011-failed-at-the-start")
    assert find_run_dir("latest", tmp_path).name == "00010-b"


@pytest.mark.parametrize("copy", ["00010-b (copy)", "00010-a-backup", "00010"])
def test_a_copy_beside_a_run_is_not_the_latest(tmp_path, copy):
    write_status(trained(run(tmp_path, "00010-b")), "stopped", 1, 2)
    trained(run(tmp_path, copy))
    (tmp_path / copy / STATUS_FILE).write_bytes((tmp_path / "00010-b" / STATUS_FILE).read_bytes())
    assert find_run_dir("latest", tmp_path).name == "00010-b"


@pytest.mark.parametrize("absent", [False, True])
def test_there_is_no_latest(tmp_path, absent):
    with pytest.raises(UserError, match=r"^--continue=latest: no run in .*; start one without --continue$"):
        find_run_dir("latest", tmp_path / "absent" if absent else tmp_path)


def test_the_latest_of_what(tmp_path):
    with pytest.raises(UserError, match="--continue=latest needs --outdir"):
        find_run_dir("latest", None)


def test_not_a_run(tmp_path):
    with pytest.raises(
        UserError, match=f"^--continue={re.escape(str(tmp_path))}: not a run folder, {OPTIONS_FILE} is missing"
    ):
        find_run_dir(str(tmp_path), None)


def test_what_may_have_been_meant_instead_of_a_run(tmp_path):
    run_dir = tmp_path / "00000-a"
    run_dir.mkdir()
    (run_dir / OPTIONS_FILE).touch()
    (run_dir / "network-snapshot-000001.pkl").touch()
    for name in (OPTIONS_FILE, "network-snapshot-000001.pkl"):
        with pytest.raises(UserError, match=f"it is inside a run folder; give that folder, {re.escape(str(run_dir))}$"):
            find_run_dir(str(run_dir / name), None)
    with pytest.raises(UserError, match=r"a folder of runs; give one of them, or --continue=latest --outdir="):
        find_run_dir(str(tmp_path), None)
    with pytest.raises(UserError, match="not a run folder"):
        find_run_dir(str(run_dir / "network-snapshot-000002.pkl"), None)


def test_a_folder_that_cannot_be_read_is_named_with_the_flag(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"^--continue=a{100}\.\.\.: the name is too long; choose a shorter one$"):
        find_run_dir("a" * 300, None)
    monkeypatch.setattr("os.access", lambda *_arguments: False)  # as root may read everything
    with pytest.raises(UserError, match=f"^--continue={re.escape(str(tmp_path))}: permission denied; change its perm"):
        find_run_dir(str(tmp_path), None)


def test_an_empty_name_is_not_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / OPTIONS_FILE).touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^--continue=: it is empty; give a run folder"):
        find_run_dir("", None)


def test_states_of_a_run(tmp_path):
    assert find_state(tmp_path) is RunState.NEW
    (tmp_path / "stats.jsonl").write_text("{}\n")  # the first tick: nothing is lost by starting again
    assert find_state(tmp_path) is RunState.NEW
    (tmp_path / "stats.jsonl").write_text("{}\n{}\n")
    assert find_state(tmp_path) is RunState.DAMAGED
    trained(tmp_path)
    assert find_state(tmp_path) is RunState.STOPPED
    with lock_run(tmp_path):
        assert find_state(tmp_path) is RunState.RUNNING
    write_status(tmp_path, "finished", 3, 3)
    assert find_state(tmp_path) is RunState.FINISHED


@pytest.mark.parametrize("trace", ["training-state-000000004.safetensors.damaged", "stats.jsonl", STATUS_FILE])
def test_a_run_that_has_trained_does_not_start_over(tmp_path, trace):
    refuse_to_start_over(tmp_path)
    content = {"stats.jsonl": "{}\n{}\n", STATUS_FILE: '{"reason": "stopped", "kimg": 1}'}
    (tmp_path / trace).write_text(content.get(trace, ""))
    (tmp_path / "network-snapshot-000001.pkl").touch()
    assert has_progress(tmp_path)
    with pytest.raises(UserError, match=r"start a new run with --resume=.*network-snapshot-000001\.pkl$"):
        refuse_to_start_over(tmp_path)


@pytest.mark.parametrize(
    ("name", "has_trained"),
    [
        ("network-snapshot-000200.pkl", True),
        ("network-snapshot-000000_512.pkl", True),
        ("network-snapshot-000000.pkl", False),
        ("network-snapshot-000000", False),
        ("fakes000000_544.png", True),
        ("fakes000004_G.png", True),
        ("fakes000000_G.png", False),
        ("fakes_init.png", False),
    ],
)
def test_outputs_beyond_the_first_tick_are_progress(tmp_path, name, has_trained):
    (tmp_path / name).touch()
    assert has_progress(tmp_path) == has_trained
    assert find_state(tmp_path) is (RunState.DAMAGED if has_trained else RunState.NEW)


@pytest.mark.parametrize("name", ["stats.jsonl", "log.txt", ".lock", "metric-fid50k_full.jsonl"])
def test_files_of_others_are_not_written_through_links(tmp_path, name):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / name).symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match=f"{name}' is a link, which would be written through; delete it"):
        check_files(run_dir)


@pytest.mark.parametrize("name", ["stats.jsonl", "training-state-000000004.sha256", "anything"])
def test_pipes_are_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match=f"{name}' is not a regular file; delete it"):
        check_files(tmp_path)
    assert not has_progress(tmp_path) or name.startswith("training")


def test_a_checkpoint_of_another_user_is_not_taken_for_damaged(tmp_path, monkeypatch):
    (tmp_path / "training-state-000000004.safetensors").touch()
    check_files(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, _mode: not str(path).endswith(".safetensors"))
    with pytest.raises(UserError, match="cannot be read by this user; change its permissions"):
        check_files(tmp_path)


def test_runs_of_other_users_are_passed_over(tmp_path, monkeypatch):
    for name in ("00000-mine", "00001-theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / OPTIONS_FILE).touch()
    is_file = Path.is_file

    def is_file_if_allowed(self):
        if "theirs" in str(self):
            raise PermissionError
        return is_file(self)

    monkeypatch.setattr(Path, "is_file", is_file_if_allowed)
    assert find_run_dir("latest", tmp_path).name == "00000-mine"
    with pytest.raises(UserError, match="not a run folder"):
        find_run_dir(str(tmp_path / "00001-theirs"), None)


def test_the_time_that_a_run_has_spent(tmp_path):
    ticks = [stats_line({"Progress/kimg": kimg, "Timing/total_sec": 100 * kimg}) for kimg in (0.5, 1.5, 2.5)]
    (tmp_path / "stats.jsonl").write_text("".join(ticks) + stats_line({"Timing/total_sec": 700}) + "{}\n3\n")
    assert read_spent_sec(tmp_path) == 0  # as it would begin anew
    (tmp_path / "training-state-000001500.safetensors").touch()
    assert read_spent_sec(tmp_path) == 150


def test_the_way_out_is_the_newest_snapshot(tmp_path):
    for kimg in ("999999", "1000000"):
        (tmp_path / f"network-snapshot-{kimg}.pkl").touch()
    with pytest.raises(UserError, match=r"--resume=.*network-snapshot-1000000\.pkl$"):
        refuse_to_start_over(tmp_path)


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(UserError, match=r"name too long; shorten --desc or the name of --data$"):
        make_run_dir(tmp_path, "x" * 300)
