import torch

from torch_utils.stopwatch import Stopwatch


def test_a_stopwatch_reads_nothing_before_its_first_stop():
    stopwatch = Stopwatch(torch.device("cpu"))
    assert stopwatch.read_sec() is None
    stopwatch.start()
    assert stopwatch.read_sec() is None
    stopwatch.stop()
    assert stopwatch.read_sec() >= 0
