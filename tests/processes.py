"""Processes that start in milliseconds: forked from a server that has imported everything, instead of new interpreters.

Importing torch and this project takes seconds, and many tests need processes of their own. A server is started on
first use, one for each process that runs tests. What matters of a new interpreter (its environment, its signals, a
terminal) is for tests that start one.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import reduction
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from tests.helpers import REPOSITORY

PRELOADED = "tests.training_runs"
"""A module that imports what takes long."""


def fork_server() -> Any:
    """The multiprocessing context of the server."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    return context


def forked(target: Callable[..., Any], *args: Any) -> Any:
    """A process of the server that will call ``target``, when it is started, as a new interpreter would."""
    return fork_server().Process(target=_call, args=(_Surroundings(), target, *args))


@contextmanager
def forked_ranks() -> Iterator[None]:
    """Let `torch_utils.launch.launch` take its processes from the server; commands still spawn theirs."""
    fork_server()  # sets what it imports
    forked = functools.partial(_start_forked, torch.multiprocessing.start_processes)
    with mock.patch.object(torch.multiprocessing, "start_processes", forked):
        yield


def _start_forked(start_processes: Any, fn: Any, args: Any = (), *, start_method: str, **kwargs: Any) -> Any:
    return start_processes(functools.partial(_call, _Surroundings(), fn), args, start_method="forkserver", **kwargs)


class _Surroundings:
    """What a new interpreter would have from the process that starts it, and a process of the server has not."""

    def __init__(self, start_method: str = "", environment: dict[str, str] | None = None, *streams: Any) -> None:
        self._start_method = start_method
        self._environment = environment
        self._streams = streams

    def __reduce__(self) -> Any:
        """Take the surroundings along to the process that is being started: pickling is part of that."""
        streams = [reduction.DupFd(descriptor) for descriptor in (1, 2)]
        return _Surroundings, (multiprocessing.get_start_method(), dict(os.environ), *streams)

    def enter(self) -> None:
        assert self._environment is not None
        multiprocessing.set_start_method(self._start_method, force=True)  # or workers would start servers of their own
        os.environ.clear()
        os.environ.update(self._environment)
        for descriptor, stream in enumerate(self._streams, start=1):
            os.dup2(stream.detach(), descriptor)


def _call(surroundings: _Surroundings, fn: Any, *args: Any) -> Any:
    surroundings.enter()
    return fn(*args)


def run_script(*arguments: str | Path, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    """``python arguments...``, a script or ``-m module`` of this repository, in a process of the server."""
    words = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, name) for name in ("stdout", "stderr")]
        process = forked(_run_script, words, cwd, outputs)
        process.start()
        process.join()
        return subprocess.CompletedProcess(words, process.exitcode, *(path.read_text() for path in outputs))


def _run_script(words: list[str], cwd: Path, outputs: list[Path]) -> None:
    for descriptor, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(cwd)
    torch.set_num_threads(1)
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(str(REPOSITORY / words[0]), run_name="__main__")  # an absolute path stays itself
