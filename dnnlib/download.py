"""Downloads over https: pooch caches, verifies and retries; this module adds limits and refuses wrong content.

Requests go through urllib rather than pooch's own downloader, because urllib trusts the certificates of the system and
hands over data as it arrives, so that a server that trickles is noticed.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from dnnlib.atomic import write_atomic
from dnnlib.file_content import content_fault, sha256_of

TIMEOUT_SEC = 30.0
"""Longest silence of a server, and the time after which it must have sent `MIN_BYTES_PER_SEC`."""

MIN_BYTES_PER_SEC = 1024
"""The download is given up if a server is slower on average."""

MAX_BYTES = 4 << 30
"""Largest file that is downloaded: ten times the largest networks of StyleGAN2."""

RESERVED_BYTES = 256 << 20
"""Disk space that a download leaves free."""

LARGE_BYTES = 10 << 20
"""Smaller downloads show no progress."""

CHUNK_BYTES = 1 << 20

_TRANSIENT_STATUS = (408, 425, 429, 500, 502, 503, 504)
"""HTTP status codes after which a second attempt may succeed."""


class DownloadError(OSError):
    """A download that failed; the message says why, without the URL."""


class _TransientError(DownloadError, ValueError):
    """A failure that may pass. As a ValueError it makes pooch try again, which a plain `DownloadError` does not."""


def download(
    url: str,
    path: Path,
    num_attempts: int = 1,
    sha256: str | None = None,
    verbose: bool = False,
    opener: urllib.request.OpenerDirector | None = None,
) -> None:
    """Download ``url`` to ``path`` unless a file with the expected checksum is there already.

    The file appears complete or not at all. It has at most `MAX_BYTES` and is neither empty nor a web page.

    Args:
        url: An https URL.
        path: The file. Its folder is created if necessary.
        num_attempts: Number of attempts, the first one included.
        sha256: Expected checksum in hexadecimal. Without one, any existing file is kept, and the server must declare
            the length of the file.
        verbose: Print the URL, and show the progress from `LARGE_BYTES` on.
        opener: Sends the requests. Default: `https_opener`.

    Raises:
        OSError: The file cannot be written, or, as `DownloadError`, no attempt succeeded.
    """
    import pooch  # imports requests, which takes 0.1 s

    attempts = itertools.count(1)

    def fetch(url: str, temp_path: str, _pooch: Any) -> None:
        attempt = next(attempts)
        if verbose:
            print(f"Downloading {url}" + (f", attempt {attempt} of {num_attempts}" if attempt > 1 else ""), flush=True)
        receive = partial(
            _receive,
            url=url,
            opener=opener or https_opener(),
            max_bytes=min(MAX_BYTES, max(shutil.disk_usage(path.parent).free - RESERVED_BYTES, 0)),
            needs_length=sha256 is None,
            verbose=verbose,
        )
        write_atomic(temp_path, receive)  # pooch's own file would be readable by this user only, and not synced
        if fault := content_fault(temp_path):
            raise DownloadError(f"the server sent {fault}")
        if sha256 is not None and (found := sha256_of(temp_path)) != sha256.lower():  # pooch would try again
            raise DownloadError(f"the server sent another file: expected sha256:{sha256} but got {found}")

    pooch.get_logger().setLevel("WARNING")  # what is downloaded is printed here
    cache = pooch.Pooch(
        path.parent,
        base_url="",
        registry={path.name: f"sha256:{sha256}" if sha256 else None},
        urls={path.name: url},
        retry_if_failed=max(num_attempts - 1, 0),
    )
    try:
        cache.fetch(path.name, downloader=fetch)
    except DownloadError:
        raise
    except ValueError as err:  # how pooch reports a wrong checksum
        raise DownloadError(str(err)) from err


def https_opener() -> urllib.request.OpenerDirector:
    """Create an opener that speaks https only, also after redirects, through the proxy of the environment if any."""
    context = ssl.create_default_context()
    context.sslsocket_class = _PacedSocket
    opener = urllib.request.OpenerDirector()
    for handler in (
        _RefuseOtherSchemes(),
        urllib.request.ProxyHandler(),
        urllib.request.HTTPSHandler(context=context),
        _RedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener


class _RefuseOtherSchemes(urllib.request.BaseHandler):
    def default_open(self, request: urllib.request.Request) -> None:
        """Look at every request before the handler of its scheme does."""
        if request.type != "https":
            raise DownloadError(f"{request.full_url[:100]!a} is not https")


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """Close the connection also if it redirects to a malformed URL, which urllib forgets."""
        with fp:
            return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class _PacedSocket(ssl.SSLSocket):
    """A connection that raises a TimeoutError when the server trickles, be it headers or content, or never ends."""

    _start_sec: float | None = None
    _num_bytes = 0

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        if self._start_sec is None:
            self._start_sec = time.monotonic()
        num_bytes = super().recv_into(*args, **kwargs)
        self._num_bytes += num_bytes
        elapsed_sec = time.monotonic() - self._start_sec
        if elapsed_sec > TIMEOUT_SEC and self._num_bytes < elapsed_sec * MIN_BYTES_PER_SEC:
            raise TimeoutError(f"too slow, {self._num_bytes} bytes in {elapsed_sec:.0f} s")
        if self._num_bytes > 2 * MAX_BYTES:  # headers without end; content stops earlier
            raise TimeoutError(f"no end after {self._num_bytes} bytes")
        return num_bytes


def _receive(
    file: BinaryIO, url: str, opener: urllib.request.OpenerDirector, max_bytes: int, needs_length: bool, verbose: bool
) -> None:
    """Write what the server sends, ``max_bytes`` at most, to ``file``, and raise an error unless that is all of it."""
    from dnnlib.progress import progress_bar  # importing dnnlib should not import tqdm

    with _network_errors(), opener.open(url, timeout=TIMEOUT_SEC) as response:
        length = _declared_length(response)
        if length is None and needs_length and not response.chunked:
            raise DownloadError("the server does not say how long the file is, so one cut short would go unnoticed")
        num_bytes = 0
        is_shown = verbose and (length is None or length >= LARGE_BYTES)
        with progress_bar("Download", length, unit="B", disable=not is_shown) as bar:
            while chunk := response.read1(CHUNK_BYTES):
                num_bytes += len(chunk)
                if max(num_bytes, length or 0) > max_bytes:
                    raise DownloadError(
                        f"it has more than {max_bytes} bytes: at most {MAX_BYTES >> 30} GiB are downloaded, "
                        f"and {RESERVED_BYTES >> 20} MiB of the disk stay free"
                    )
                file.write(chunk)
                bar.update(len(chunk))
    if length is not None and num_bytes != length:
        raise _TransientError(f"it ended after {num_bytes} of {length} bytes")


def _declared_length(response: http.client.HTTPResponse) -> int | None:
    """Check the status and the headers of an answer; return the length of the file if the server declares it."""
    if response.status != 200:
        raise DownloadError(f"the server answered {response.status} {response.reason[:100]!a} instead of 200")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise DownloadError(f"the server sent it in the encoding {encoding[:100]!a}, which was not asked for")
    length = response.headers.get("Content-Length")
    if length is not None and not re.fullmatch("[0-9]{1,18}", length.strip()):
        raise DownloadError(f"the server gave its length as {length[:100]!a}")
    return None if length is None else int(length)


@contextlib.contextmanager
def _network_errors() -> Iterator[None]:
    """Turn all errors of the network and the server into a DownloadError; text from the server is escaped and cut."""
    try:
        yield
    except DownloadError:
        raise
    except urllib.error.HTTPError as err:
        err.close()
        error_class = _TransientError if err.code in _TRANSIENT_STATUS else DownloadError
        raise error_class(f"the server answered {err.code} {str(err.reason)[:100]!a}") from err
    except urllib.error.URLError as err:
        raise _TransientError(f"no connection ({str(err.reason)[:200]!a})") from err
    except (http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as err:
        raise _TransientError(f"the connection broke ({type(err).__name__} {str(err)[:100]!a})") from err
    except ValueError as err:  # from a URL, that of a redirect too
        raise DownloadError(f"the URL, or one it redirects to, is malformed ({str(err)[:100]!a})") from err
