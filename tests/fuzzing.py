"""Damaged and hostile files under limits: mutations of valid files, and processes with limited time and memory.

For a format, a test calls `fuzz` with a reader and a few small valid files. ``MSCOND_FUZZ_ROUNDS=100000`` in the
environment makes every such test run that many rounds instead of its default.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import pickle
import random
import resource
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

from dnnlib.errors import UserError

T = TypeVar("T")

MAX_CPU_SEC = 5
"""CPU time that one read may take; a busy machine does not change it."""
MAX_BYTES = 256 << 20
"""Memory that a process may take on top of what it has at the start."""
MAX_MESSAGE_CHARS = 1000

INTERESTING = (b"\x00", b"\x01", b"\x7f", b"\x80", b"\xff", b"\n", b"\x1b", b'"', b"{", b"[", b"(", b".")
INTERESTING_INTEGERS = (0, 1, -1, 127, 255, 256, 65535, 1 << 20, (1 << 31) - 1, -(1 << 31), (1 << 63) - 1)

FORBIDDEN_EVENTS = (
    *("exec", "compile", "code.__new__", "function.__new__", "import", "marshal.", "pickle.find_class", "ctypes."),
    *("os.exec", "os.fork", "os.posix_spawn", "os.system", "os.remove", "os.rename", "os.mkdir", "os.chmod"),
    *("subprocess.", "pty.", "shutil.", "socket.", "urllib.", "webbrowser.", "tempfile."),
)
"""Audit events (`sys.addaudithook`) that no reader of data files has a reason for once everything is imported."""

ENCODINGS = (
    "raw_unicode_escape",
    "unicode_escape",
    "utf-8-sig",
    "utf-16-be",
    "utf-16-le",
    "utf-32-be",
    "utf-32-le",
    "cp437",
)
"""Codecs of the standard library that pickles, JSON and zips import when a file first needs them."""


def num_rounds(default: int) -> int:
    """Return how many mutations to try: ``default``, or ``MSCOND_FUZZ_ROUNDS`` if that is set."""
    return int(os.environ.get("MSCOND_FUZZ_ROUNDS", default))


def mutate(rng: random.Random, data: bytes) -> bytes:
    """Return ``data`` with one to four random changes: bits, bytes, integers, slices moved, repeated or cut out."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(_MUTATIONS)(rng, changed)
    return bytes(changed)


def _flip_bit(rng: random.Random, data: bytearray) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set_byte(rng: random.Random, data: bytearray) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.randrange(256)


def _insert(rng: random.Random, data: bytearray) -> None:
    start = rng.randint(0, len(data))
    data[start:start] = rng.choice(INTERESTING) * rng.choice((1, 1, 2, 8, 1000))


def _set_integer(rng: random.Random, data: bytearray) -> None:
    num_bytes = rng.choice((2, 4, 8))
    value = rng.choice(INTERESTING_INTEGERS) & ((1 << 8 * num_bytes) - 1)
    if len(data) >= num_bytes:
        start = rng.randint(0, len(data) - num_bytes)
        data[start : start + num_bytes] = value.to_bytes(num_bytes, rng.choice(("little", "big")))


def _slice(rng: random.Random, data: bytearray) -> slice:
    start = rng.randint(0, len(data))
    return slice(start, start + rng.choice((1, 2, 4, 16, 64, 1024)))


def _cut_out(rng: random.Random, data: bytearray) -> None:
    del data[_slice(rng, data)]


def _repeat(rng: random.Random, data: bytearray) -> None:
    part = data[_slice(rng, data)]
    start = rng.randint(0, len(data))
    data[start:start] = part * rng.choice((1, 1, 2, 16))


def _overwrite_by_another_part(rng: random.Random, data: bytearray) -> None:
    part = data[_slice(rng, data)]
    start = rng.randint(0, len(data))
    data[start : start + len(part)] = part


def _truncate(rng: random.Random, data: bytearray) -> None:
    del data[rng.randint(0, len(data)) :]


_MUTATIONS: Sequence[Callable[[random.Random, bytearray], None]] = (
    *(_flip_bit, _flip_bit, _set_byte, _set_byte, _insert, _set_integer, _cut_out, _repeat),
    *(_overwrite_by_another_part, _truncate),
)


def fuzz(
    read: Callable[[bytes], object],
    valid: Sequence[bytes],
    num: int,
    seed: int = 0,
    max_cpu_sec: int = MAX_CPU_SEC,
    max_bytes: int = MAX_BYTES,
    allowed_events: Sequence[str] = (),
) -> int:
    """Read mutations of valid files; every one must be read or refused with a `UserError` of one printable line.

    Args:
        read: Reads the content of a file and takes apart what it gives, as a user of the format would.
        valid: Contents that it reads. They are read first, which triggers late imports.
        num: How many mutations.
        seed: Of the random numbers.
        max_cpu_sec: CPU seconds for each of them.
        max_bytes: Memory for all of them.
        allowed_events: Events out of `FORBIDDEN_EVENTS` that the reader has a reason for.

    Returns:
        How many of the mutations were refused.

    Raises:
        AssertionError: The reader took too long or too much memory, crashed, raised something else, or did something
            that `FORBIDDEN_EVENTS` names.
    """

    def read_all() -> int:
        for data in valid:
            read(data)
        watch = _Watch(tuple(event for event in FORBIDDEN_EVENTS if event not in allowed_events))
        rng = random.Random(seed)
        num_refused = 0
        for index in range(num):
            data = mutate(rng, rng.choice(valid))
            limit_cpu(max_cpu_sec)
            try:
                with watch:
                    read(data)
            except UserError as error:
                num_refused += 1
                _check_message(error, index)
            except Exception as error:
                raise AssertionError(f"mutation {index} of seed {seed}: {data[:200]!r}") from error
            assert not watch.events, f"mutation {index} of seed {seed}: {watch.events}"
        return num_refused

    return run_bounded(read_all, max_cpu_sec, max_bytes)


@contextlib.contextmanager
def refusal_allowed() -> Iterator[None]:
    """Swallow a `UserError`, unless it stands for a lack of memory."""
    try:
        yield
    except UserError as error:
        check_memory(error)


def check_memory(error: UserError) -> None:
    """Make sure that an error does not stand for a lack of memory."""
    assert not isinstance(error.__cause__, MemoryError), "out of memory"
    assert "MemoryError" not in str(error), "out of memory"


def _check_message(error: UserError, index: int) -> None:
    text = str(error)
    check_memory(error)
    assert text.isprintable(), f"mutation {index}: {text!a}"
    assert len(text) <= MAX_MESSAGE_CHARS, f"mutation {index}: a message of {len(text)} characters"


class _Watch:
    """Collects forbidden events while it is entered. It cannot be removed again, so only child processes make one."""

    def __init__(self, forbidden: tuple[str, ...]) -> None:
        self._forbidden = forbidden
        for encoding in ENCODINGS:
            codecs.lookup(encoding)
        self.events: list[str] = []
        self._is_on = False
        sys.addaudithook(self._hear)

    def __enter__(self) -> None:
        self._is_on = True

    def __exit__(self, *_: object) -> None:
        self._is_on = False

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if self._is_on and event.startswith(self._forbidden):
            self.events.append(f"{event} {ascii(args)[:200]}")


def run_bounded(task: Callable[[], T], max_cpu_sec: int = MAX_CPU_SEC, max_bytes: int = MAX_BYTES) -> T:
    """Run ``task`` in a forked process that is killed when it takes too long, and gets no more memory than allowed.

    Args:
        task: What to run; its result must be picklable.
        max_cpu_sec: CPU seconds; ``task`` may set the clock back by `limit_cpu`.
        max_bytes: Address space on top of what this process has.

    Raises:
        AssertionError: It raised something, ran into a limit or crashed.
    """
    receiver, sender = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside other threads, which the child leaves
        pid = os.fork()
    if pid == 0:
        os.close(receiver)
        _run_in_child(task, sender, max_cpu_sec, max_bytes)
    os.close(sender)
    answer = _receive(receiver, pid, max_wait_sec=60 + 20 * max_cpu_sec)
    _, status = os.waitpid(pid, 0)
    if not answer:
        raise AssertionError(f"the process ended with {_describe_status(status)} (limits: {max_cpu_sec} s of CPU time)")
    is_good, value = pickle.loads(answer)
    if not is_good:
        raise AssertionError(f"in the process:\n{value}")
    return value


def limit_cpu(seconds: int) -> None:
    """Let this process run for that many more seconds of CPU time."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + seconds + 1, hard))


def _run_in_child(task: Callable[[], T], sender: int, max_cpu_sec: int, max_bytes: int) -> NoReturn:
    answer: tuple[bool, Any]
    try:
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        limit_cpu(max_cpu_sec)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit = _address_space_bytes() + max_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        answer = (True, task())
    except BaseException:
        answer = (False, traceback.format_exc()[-8000:])
    try:
        with open(sender, "wb") as file:
            file.write(pickle.dumps(answer))
    finally:
        os._exit(0)


def _address_space_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _receive(receiver: int, pid: int, max_wait_sec: float) -> bytes:
    """Read until the other end is closed; a process that hangs is killed."""
    answer = bytearray()
    with open(receiver, "rb", buffering=0) as file:
        while select.select([file], [], [], max_wait_sec)[0]:
            part = file.read(1 << 16)
            if not part:
                return bytes(answer)
            answer += part
    os.kill(pid, signal.SIGKILL)
    return b""


def _describe_status(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {signal.Signals(os.WTERMSIG(status)).name}"
    return f"status {os.waitstatus_to_exitcode(status)}"
