import contextlib
import os
import signal
import threading

import pytest

from dnnlib.signals import available, signal_handlers


@pytest.fixture(autouse=True)
def handlers_stay():
    before = {signum: signal.getsignal(signum) for signum in available("SIGHUP", "SIGUSR1", "SIGTERM")}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def test_handlers_are_installed_and_restored():
    received = []
    before = signal.getsignal(signal.SIGTERM)
    with contextlib.suppress(KeyError), signal_handlers({signal.SIGTERM: lambda signum, _: received.append(signum)}):
        os.kill(os.getpid(), signal.SIGTERM)
        raise KeyError
    assert received == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(not available("SIGHUP"), reason="needs SIGHUP")
@pytest.mark.parametrize("before", [signal.SIG_IGN, signal.SIG_DFL])
def test_an_ignored_hangup_stays_ignored(before):
    signal.signal(signal.SIGHUP, before)
    with signal_handlers({signal.SIGHUP: print}):
        assert signal.getsignal(signal.SIGHUP) is (signal.SIG_IGN if before == signal.SIG_IGN else print)
    assert signal.getsignal(signal.SIGHUP) is before


def test_other_threads_install_nothing():
    found = []

    def run():
        with signal_handlers({signal.SIGTERM: print}):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]
    assert found[0] is not print


def test_signals_that_do_not_exist_are_left_out():
    assert available("SIGTERM", "SIGNOTHING") == [signal.SIGTERM]
