import os
import signal
import threading

import pytest

from training.stop_request import listen_for_stop

JOB_SIGNALS = [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU, signal.SIGHUP]
SIGNALS = [signal.SIGINT, *JOB_SIGNALS]


def handlers():
    return [signal.getsignal(signum) for signum in SIGNALS]


@pytest.fixture(autouse=True)
def _handlers_of_before():
    """Each test begins with the same ones: SIGXCPU stays ignored once it has come."""
    before = handlers()
    yield
    for signum, handler in zip(SIGNALS, before, strict=True):
        signal.signal(signum, handler)


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_is_a_request(signum):
    with listen_for_stop() as stop:
        assert not stop.agreed()
        os.kill(os.getpid(), signum)
        assert stop.agreed()
        assert stop.agreed()


@pytest.mark.parametrize("signum", JOB_SIGNALS)
def test_job_managers_may_repeat_themselves(signum):
    with listen_for_stop() as stop:
        for _ in range(3):
            os.kill(os.getpid(), signum)
        assert stop.agreed()


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_limit_of_cpu_time_that_has_come_does_not_end_what_was_saved(signum):
    """Its signal comes again every second, also after the last checkpoint; other signals leave its handler alone."""
    came = []
    signal.signal(signal.SIGXCPU, lambda *_: came.append(True))
    with listen_for_stop():
        os.kill(os.getpid(), signum)
    os.kill(os.getpid(), signal.SIGXCPU)
    assert came == ([] if signum == signal.SIGXCPU else [True])


def test_a_second_ctrl_c_stops_at_once():
    with listen_for_stop():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back_even_after_an_error():
    before = handlers()

    def fail():
        with listen_for_stop():
            assert handlers() != before
            os.kill(os.getpid(), signal.SIGINT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert handlers() == before


def test_no_handlers_outside_the_main_thread():
    seen = []

    def listen():
        with listen_for_stop() as stop:
            seen.extend([handlers(), stop.agreed()])

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [handlers(), False]
