import json

import filelock
import pytest

from dnnlib.errors import UserError
from tests.processes import fork_server
from training.run.folder import RunState, find_state
from training.run.lock import is_locked, lock_run
from training.run.status import STATUS_FILE, write_status


def test_whether_a_run_is_locked(tmp_path, monkeypatch):
    assert is_locked(tmp_path) is False
    with lock_run(tmp_path):
        assert is_locked(tmp_path) is True
    assert is_locked(tmp_path) is False

    def refuse(*_args, **_kwargs):
        raise PermissionError

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    assert is_locked(tmp_path) is None
    assert find_state(tmp_path) is RunState.NEW


def hold_lock(path, is_held, is_over):
    with lock_run(path):
        write_status(path, "running", 0, 1)
        is_held.set()
        is_over.wait()


@pytest.mark.slow
def test_two_processes_cannot_train_one_run(tmp_path):
    context = fork_server()
    is_held, is_over = context.Event(), context.Event()
    process = context.Process(target=hold_lock, args=(tmp_path, is_held, is_over))
    process.start()
    is_held.wait()
    message = (
        rf"by another process \(process {process.pid} on .*\); stop that one first, or if there is none, delete \.lock"
    )
    with pytest.raises(UserError, match=message), lock_run(tmp_path):
        pass
    process.kill()  # the lock does not outlive its process
    process.join()
    with lock_run(tmp_path):
        pass


def test_a_lock_whose_holder_is_unknown_or_hostile(tmp_path):
    for status, where in (({"pid": 1}, "process;"), ({"pid": 1, "host": "\x1b[2J"}, r"\(process 1 on \\x1b\[2J\);")):
        (tmp_path / STATUS_FILE).write_text(json.dumps(status))
        with lock_run(tmp_path), pytest.raises(UserError, match=f"trained by another .*{where}"), lock_run(tmp_path):
            pass
