"""Downloading one file: over https only, streamed, with time-outs and a checksum, complete or not at all."""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

from dnnlib.atomic import write_atomic

TIMEOUT_SEC = 30.0
"""Longest silence of a server, and the time after which `MIN_BYTES_PER_SEC` is asked for."""

MIN_BYTES_PER_SEC = 1024
"""A slower transfer (over its whole time) counts as failed."""

CHUNK_BYTES = 1 << 20

_PASSING_STATUS = (408, 425, 429, 500, 502, 503, 504)
"""HTTP answers after which a second attempt may succeed."""


class DownloadError(OSError):
    """A download that failed; the text says why, without the URL."""


class _PermanentError(DownloadError):
    """A failure that another attempt would only repeat."""


class Opener(Protocol):
    """What `urllib.request.OpenerDirector` offers and `download` uses."""

    def open(self, fullurl: str, data: None = None, timeout: float = ...) -> http.client.HTTPResponse:
        """Send a GET request and return the answer with its body unread."""


class _RefuseHttp(urllib.request.BaseHandler):
    """Stands where urllib's plain http handler would: a redirect must not leave https either."""

    def http_open(self, request: urllib.request.Request) -> None:
        raise _PermanentError(f"{request.full_url} is not https")


def https_opener() -> Opener:
    """Make an opener that speaks https and nothing else, through the proxy of the environment if there is one."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        _RefuseHttp(),
    ):
        opener.add_handler(handler)
    return opener


def download(
    url: str,
    dest: str | os.PathLike[str] | BinaryIO,
    num_attempts: int,
    sha256: str | None = None,
    timeout_sec: float = TIMEOUT_SEC,
    pause_sec: float = 1.0,
    opener: Opener | None = None,
) -> None:
    """Fetch ``url`` into the file ``dest``, which appears complete or not at all, or into a binary buffer.

    Args:
        url: An https URL.
        dest: Path of the file (its folder is made) or a seekable buffer.
        num_attempts: How often to try in all.
        sha256: Expected checksum in hexadecimal.
        timeout_sec: Longest silence of the server.
        pause_sec: Wait before the second attempt; doubles from then on.
        opener: Sends the requests. Default: `https_opener`.

    Raises:
        DownloadError: No attempt brought the whole file with the right checksum.
    """
    fetch = partial(_fetch, opener=opener or https_opener(), url=url, sha256=sha256, timeout_sec=timeout_sec)
    for pause in [*(pause_sec * 2**i for i in range(num_attempts - 1)), None]:
        try:
            if isinstance(dest, (str, os.PathLike)):
                Path(dest).parent.mkdir(parents=True, exist_ok=True)
                write_atomic(dest, fetch)
            else:
                fetch(dest)
            return
        except DownloadError as err:
            if pause is None or isinstance(err, _PermanentError):
                raise
            time.sleep(pause)


def _fetch(file: BinaryIO, opener: Opener, url: str, sha256: str | None, timeout_sec: float) -> None:
    digest = hashlib.sha256()

    def consume(chunk: bytes) -> None:
        file.write(chunk)
        digest.update(chunk)

    file.seek(0)
    file.truncate()
    _receive(opener, url, timeout_sec, consume)
    if sha256 is not None and digest.hexdigest() != sha256.lower():
        raise _PermanentError(f"its sha256 is {digest.hexdigest()}, expected {sha256.lower()}")


def _receive(opener: Opener, url: str, timeout_sec: float, consume: Callable[[bytes], None]) -> None:
    """Hand over the body piece by piece; every fault of the network becomes a `DownloadError`."""
    start = time.monotonic()
    num_bytes = 0
    try:
        with opener.open(url, timeout=timeout_sec) as response:
            expected = response.headers.get("Content-Length")
            while chunk := response.read1(CHUNK_BYTES):
                consume(chunk)
                num_bytes += len(chunk)
                elapsed_sec = time.monotonic() - start
                if elapsed_sec > timeout_sec and num_bytes < elapsed_sec * MIN_BYTES_PER_SEC:
                    raise DownloadError(f"too slow, {num_bytes} bytes in {elapsed_sec:.0f} s")
    except urllib.error.HTTPError as err:
        err.close()
        error_class = DownloadError if err.code in _PASSING_STATUS else _PermanentError
        raise error_class(f"the server answered {err.code} {err.reason}") from err
    except urllib.error.URLError as err:
        raise DownloadError(f"no connection ({err.reason})") from err
    except (http.client.HTTPException, TimeoutError, ConnectionError) as err:
        raise DownloadError(f"the connection broke ({err or type(err).__name__})") from err
    if expected is not None and num_bytes != int(expected):
        raise DownloadError(f"it ended after {num_bytes} of {expected} bytes")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the checksum of a file in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
