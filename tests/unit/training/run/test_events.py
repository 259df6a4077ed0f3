import threading

import pytest
import torch.utils.tensorboard
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.run.events import EventFiles


@pytest.fixture
def disk(monkeypatch):
    """A disk that is full while its only item is True."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    is_full = [False]
    write = RecordWriter.write

    def write_if_possible(self, data):
        if is_full[0]:
            raise OSError(28, "No space left on device")
        write(self, data)

    monkeypatch.setattr(RecordWriter, "write", write_if_possible)
    return is_full


def values(run_dir):
    events = EventAccumulator(str(run_dir)).Reload()
    return [(event.step, event.value) for event in events.Scalars("a")]


@pytest.mark.parametrize("is_full_at_first", [True, False])
def test_a_disk_that_was_full_for_a_while(tmp_path, disk, capfd, is_full_at_first):
    files = EventFiles(tmp_path, 0)
    if not is_full_at_first:
        files.write({"a": 1.0}, 1)
    disk[0] = True
    for step in (2, 3):
        with pytest.raises(OSError, match="No space left"):
            files.write({"a": 2.0}, step)
    disk[0] = False
    files.write({"a": 4.0}, 4)
    files.close()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and type(thread).__name__ == "_AsyncWriterThread":
            thread.join()
    assert max(values(tmp_path)) == (4, 4.0)  # files of one second are read in the order of their names
    assert "Traceback" not in capfd.readouterr().err


def test_a_folder_whose_name_is_no_utf_8(tmp_path):
    files = EventFiles(tmp_path / "f\udce9te", 0)
    with pytest.raises(OSError, match="its name is not UTF-8"):
        files.write({"a": 1.0}, 1)
    files.close()


def test_other_threads_are_heard(tmp_path, monkeypatch, disk):
    heard = []
    monkeypatch.setattr(threading, "excepthook", heard.append)
    EventFiles(tmp_path, 0).write({"a": 1.0}, 1)

    def fail():
        raise OSError("other")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    assert [str(args.exc_value) for args in heard] == ["other"]
    assert torch.utils.tensorboard.SummaryWriter
