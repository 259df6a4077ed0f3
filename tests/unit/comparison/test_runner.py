"""Several processes at once, failures, interruption; on this machine and through submitit."""

import os
import signal
import sys
import threading
import time

import pytest

from comparison import executors, runner
from comparison.executors import LocalExecutor, SubmititExecutor, job_command
from comparison.jobs import LOG
from comparison.runner import InterruptedRunsError, run_all
from dnnlib.errors import UserError
from tests.unit.comparison.fake_runs import make_job, write_run

SLEEP = "import pathlib, sys, time; pathlib.Path(sys.argv[1], 'began').touch(); time.sleep(60)"


def make_jobs(tmp_path, num):
    jobs = {tmp_path / f"stylegan2/seed{seed}": make_job(seed=seed) for seed in range(num)}
    for folder in jobs:
        folder.mkdir(parents=True)
    return jobs


def python(code):
    return lambda folder: [sys.executable, "-c", code, str(folder)]


def test_failures_are_reported_and_the_rest_goes_on(tmp_path, capsys):
    jobs = make_jobs(tmp_path, 3)
    code = "import sys; print('Error: no luck\\n  more'); sys.exit(3 if 'seed1' in sys.argv[1] else 0)"
    drawn = []
    failures = run_all(jobs, LocalExecutor(1), python(code), 2, lambda failures: drawn.append(dict(failures)))
    assert failures == {tmp_path / "stylegan2/seed1": "exit status 3; Error: no luck"}
    assert len(drawn) == 3
    assert drawn[-1] == failures
    printed = capsys.readouterr().out
    assert "stylegan2 seed1: FAILED: exit status 3; Error: no luck" in printed
    assert "stylegan2 seed2: done" in printed


def test_the_reason_of_a_failure_is_not_that_of_an_earlier_session(tmp_path):
    jobs = make_jobs(tmp_path, 1)
    (folder,) = jobs
    (folder / LOG).write_text("Error: a disk was full\n")
    failures = run_all(jobs, LocalExecutor(1), python("print('ready'); exit(9)"), 1, lambda failures: None)
    assert failures == {folder: "exit status 9; ready"}


def test_what_is_done_is_not_started(tmp_path):
    jobs = make_jobs(tmp_path, 1)
    write_run(next(iter(jobs)), [3.0, 2.0, 1.0], 1.0, 1.0, make_job())
    assert run_all(jobs, LocalExecutor(1), python("import sys; sys.exit(1)"), 1, lambda failures: None) == {}


class CountingExecutor:
    """Pretends to start processes, which end after two looks at them."""

    def __init__(self):
        self.running, self.most = 0, 0

    def start(self, command, folder):
        self.running += 1
        self.most = max(self.most, self.running)
        return Countdown(self)


class Countdown:
    def __init__(self, executor):
        self.executor, self.looks = executor, 2

    def poll(self):
        self.looks -= 1
        if self.looks:
            return None
        self.executor.running -= 1
        return 0

    def stop(self):
        raise AssertionError


def test_number_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "POLL_SEC", 0)
    executor = CountingExecutor()
    assert run_all(make_jobs(tmp_path, 5), executor, python(""), 3, lambda failures: None) == {}
    assert (executor.most, executor.running) == (3, 0)


@pytest.mark.parametrize(("given", "num_threads"), [(None, 1), ("1", 7)])
def test_threads_are_divided_unless_the_user_says_how_many(tmp_path, monkeypatch, given, num_threads):
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    command = python("import torch; print(torch.get_num_threads())")
    run_all(make_jobs(tmp_path, 1), LocalExecutor(num_threads), command, 1, lambda failures: None)
    assert (tmp_path / "stylegan2/seed0/log.txt").read_text() == "1\n"


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGUSR2, signal.SIGTERM]])
def test_interruption_stops_the_runs(tmp_path, signals):
    """Job managers warn first, and then end what is left."""
    jobs = make_jobs(tmp_path, 2)

    def interrupt():
        while not all((folder / "began").exists() for folder in jobs):
            time.sleep(0.02)
        for signum in signals:
            os.kill(os.getpid(), signum)

    before = signal.getsignal(signal.SIGINT)
    threading.Thread(target=interrupt, daemon=True).start()
    begin_sec = time.monotonic()
    with pytest.raises(InterruptedRunsError):
        run_all(jobs, LocalExecutor(1), python(SLEEP), 2, lambda failures: None)
    assert time.monotonic() - begin_sec < 50  # the runs would sleep longer
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_submitit(tmp_path):
    jobs = make_jobs(tmp_path, 2)
    executor = SubmititExecutor(tmp_path / "slurm", "local", {"timeout_min": 1})
    code = "import sys; print('Error: no luck'); sys.exit(3 if 'seed1' in sys.argv[1] else 0)"
    failures = run_all(jobs, executor, python(code), 2, lambda failures: None)
    assert failures == {tmp_path / "stylegan2/seed1": "exit status 1; Error: no luck"}
    assert (tmp_path / "stylegan2/seed0/log.txt").read_text() == "Error: no luck\n"


def test_submitit_stops(tmp_path):
    folder = tmp_path / "stylegan2/seed0"
    folder.mkdir(parents=True)
    handle = SubmititExecutor(tmp_path / "slurm", "local", {"timeout_min": 1}).start(python(SLEEP)(folder), folder)
    while not (folder / "began").exists():
        assert handle.poll() is None
        time.sleep(0.05)
    handle.stop()
    while handle.poll() is None:
        time.sleep(0.05)
    assert handle.poll() == 1


@pytest.mark.parametrize(
    ("cluster", "parameters", "words"),
    [("slurm", {}, "--slurm=slurm: .*srun"), ("local", {"nonsense": 1}, "--slurm=local: .*nonsense")],
)
def test_submitit_errors(tmp_path, monkeypatch, cluster, parameters, words):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=words):
        SubmititExecutor(tmp_path, cluster, parameters)


def test_command_of_a_job(tmp_path):
    command = job_command(tmp_path / "compare.py", tmp_path / "a/seed0")
    assert command == [sys.executable, str(tmp_path / "compare.py"), f"--run-job={tmp_path}/a/seed0"]


def test_a_page_that_cannot_be_written_stops_no_run(tmp_path, capsys):
    def fail(failures):
        raise OSError("disk full")

    jobs = make_jobs(tmp_path, 2)
    assert run_all(jobs, LocalExecutor(1), python(""), 1, fail) == {}
    printed = capsys.readouterr().out
    assert printed.count("The page was not written: disk full") == 2
    assert "stylegan2 seed1: done" in printed


def test_parameters_of_submitit():
    with pytest.raises(UserError, match="'nonsense' is not of the form name=value"):
        executors._split("nonsense")
    assert executors._split("slurm_partition=a=b") == ("slurm_partition", "a=b")
