"""Downloads from an HTTPS server in this process, whose certificate authority $SSL_CERT_FILE makes known."""

import errno
import hashlib
import http.server
import io
import os
import re
import shutil
import ssl
import stat
import threading
import urllib.request
from collections import namedtuple
from pathlib import Path

import pooch
import pytest
import trustme

from dnnlib import download as download_module
from dnnlib.errors import UserError
from dnnlib.urls import open_url

CONTENT = bytes(range(256)) * 20
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WRONG_SHA256 = "0" * 64
PAGE = b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html><title>Sign in</title></html>"


class Handler(http.server.BaseHTTPRequestHandler):
    """The first part of the path names the method that answers."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests.append(self.path)
        self.server.agents.append(self.headers["User-Agent"])
        self.close_connection = True
        getattr(self, "serve_" + self.path.split("/")[1].split(".")[0])()

    def answer(self, status=200, content=CONTENT, reason=None, length=None, **headers):
        self.send_response(status, reason)
        if length != "undeclared":
            headers["Content-Length"] = length or len(content)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(content)

    def chunks(self, *chunks):
        self.answer(content=b"", length="undeclared", Transfer_Encoding="chunked")
        for chunk in chunks:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))

    def drip(self, *head):
        self.wfile.write(b"\r\n".join(head))
        while not self.server.over.wait(0.02):
            self.wfile.write(b"x")

    def serve_good(self):
        self.answer()

    def serve_undeclared(self):
        self.answer(length="undeclared")

    def serve_chunked(self):
        self.chunks(CONTENT[:100], CONTENT[100:], b"")

    def serve_moved(self):
        self.answer(302, b"", Location="/good")

    def serve_flaky(self):
        self.answer(**{"status": 503, "content": b""} if len(self.server.requests) < 3 else {})

    def serve_torn(self):
        if len(self.server.requests) == 1:
            self.answer(content=2 * CONTENT, length=3 * len(CONTENT))
        else:
            self.answer()

    def serve_short(self):
        self.answer(content=CONTENT[:1000], length=len(CONTENT))

    def serve_shortchunks(self):
        self.chunks(CONTENT)

    def serve_absent(self):
        self.answer(404, PAGE)

    def serve_partial(self):
        self.answer(206, CONTENT[:1000], Content_Range=f"bytes 0-999/{len(CONTENT)}")

    def serve_accepted(self):
        self.answer(202)

    def serve_page(self):
        self.answer(content=PAGE)

    def serve_xml(self):
        self.answer(content=b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>')

    def serve_empty(self):
        self.answer(content=b"")

    def serve_gzip(self):
        self.answer(Content_Encoding="gzip\x1b[2J")

    def serve_badlength(self):
        self.answer(length="abc\x1b[2J")

    def serve_neglength(self):
        self.answer(length="-1")

    def serve_longlength(self):
        self.answer(length="9" * 5000)

    def serve_huge(self):
        self.answer(length=1 << 50)

    def serve_endless(self):
        while not self.server.over.is_set():
            self.chunks(*[CONTENT] * 1000)

    def serve_hundreds(self):
        while not self.server.over.is_set():
            self.wfile.write(1000 * b"HTTP/1.1 100 Continue\r\n\r\n")

    def serve_silent(self):
        self.answer(content=b"", length=len(CONTENT))
        self.server.over.wait(10)

    def serve_drip(self):
        self.drip(b"HTTP/1.1 200 OK", b"Content-Length: 5120", b"", b"")

    def serve_dripheaders(self):
        self.drip(b"HTTP/1.1 200 OK", b"X: ")

    def serve_noise(self):
        self.wfile.write(b"\x1b[2J no http at all\r\n\r\n")

    def serve_reason(self):
        self.answer(403, b"", reason="Fine\x1b[2J" + 300 * "!")

    def serve_loop(self):
        self.answer(302, b"", Location="/loop")

    def serve_to(self):
        self.answer(302, b"", Location=self.server.location)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, request, client_address):
        pass  # clients that go away are part of the tests


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def server(authority, tmp_path, monkeypatch):
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    monkeypatch.setenv("no_proxy", "*")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.requests, server.agents, server.over = [], [], threading.Event()
    server.url = f"https://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def pauses(monkeypatch):
    """Pauses between attempts, which take no time."""
    pauses = []
    monkeypatch.setattr(pooch.core.time, "sleep", pauses.append)
    return pauses


@pytest.fixture
def fetch(server, pauses, tmp_path):
    """Call open_url for a page of the server with the cache in tmp_path/cache."""

    def fetch(page, **kwargs):
        return open_url(f"{server.url}/{page}", **{"cache_dir": tmp_path / "cache", "verbose": False, **kwargs})

    return fetch


def read(file):
    with file:
        return file.read()


def cached(tmp_path):
    folder = tmp_path / "cache"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("page", ["good/model.pkl", "undeclared/model.pkl", "chunked/model.pkl", "moved/model.pkl"])
def test_a_download_is_kept_and_used_again(fetch, server, tmp_path, page):
    assert read(fetch(page, sha256=SHA256.upper())) == CONTENT
    num_requests = len(server.requests)
    assert read(fetch(page)) == read(fetch(page, sha256=SHA256.upper())) == read(fetch(page, cache=False)) == CONTENT
    path = fetch(page, return_filename=True)
    assert len(server.requests) == num_requests
    assert [path] == [str(tmp_path / "cache" / name) for name in cached(tmp_path)]
    assert path.endswith("-model.pkl")


def test_a_download_has_ordinary_permissions(fetch, tmp_path):
    (tmp_path / "ordinary").touch()
    path = Path(fetch("good", return_filename=True))
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "ordinary").stat().st_mode)


def test_different_urls_with_one_basename_do_not_mix(fetch, tmp_path):
    fetch("good/a.pkl", return_filename=True)
    fetch("good/b/a.pkl", return_filename=True)
    assert len(cached(tmp_path)) == 2


def test_without_cache_nothing_is_kept(fetch, tmp_path):
    assert isinstance(fetch("good", cache=False), io.BytesIO)
    assert read(fetch("good", cache=False, sha256=SHA256)) == CONTENT
    assert cached(tmp_path) == []
    with pytest.raises(ValueError, match="return_filename"):
        fetch("good", cache=False, return_filename=True)


def check_refused(fetch, server, tmp_path, page, reason, num_requests, **kwargs):
    """One printable line that says why and where the file can be put; nothing enters the cache."""
    with pytest.raises(UserError, match=re.escape(reason)) as caught:
        fetch(page, num_attempts=2, **kwargs)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 600
    assert cached(tmp_path) == []
    assert len(server.requests) == num_requests
    Path(message.rsplit("put it at ", 1)[1]).write_bytes(CONTENT)
    assert read(fetch(page, sha256=SHA256)) == CONTENT
    assert len(server.requests) == num_requests


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize(
    ("page", "reason", "num_requests"),
    [
        ("short", f"it ended after 1000 of {len(CONTENT)} bytes", 2),
        ("shortchunks", "the connection broke (IncompleteRead", 2),
        ("undeclared", "the server does not say how long the file is", 1),
        ("absent", "the server answered 404 'Not Found'", 1),
        ("partial", "the server answered 206 'Partial Content' instead of 200", 1),
        ("accepted", "the server answered 202 'Accepted' instead of 200", 1),
        ("page", "the server sent a web page", 1),
        ("xml", "the server sent a web page", 1),
        ("empty", "the server sent an empty file", 1),
        ("gzip", "in the encoding 'gzip\\x1b[2J'", 1),
        ("badlength", "the server gave its length as 'abc\\x1b[2J'", 1),
        ("neglength", "the server gave its length as '-1'", 1),
        ("longlength", "the server gave its length as '999", 1),
        ("noise", "the connection broke (BadStatusLine '\\x1b[2J", 2),
        ("reason", "the server answered 403 'Fine\\x1b[2J!!!", 1),
        ("loop", "the server answered 302", 5),
    ],
)
def test_a_bad_answer_never_enters_the_cache(fetch, server, tmp_path, page, reason, num_requests, cache):
    (tmp_path / "cache").mkdir()
    check_refused(fetch, server, tmp_path, page, reason, num_requests, cache=cache)


@pytest.mark.parametrize("page", ["good", "undeclared", "chunked"])
def test_a_wrong_checksum(fetch, server, tmp_path, page):
    reason = f"expected sha256:{WRONG_SHA256} but got {SHA256}"
    check_refused(fetch, server, tmp_path, page, reason, 1, sha256=WRONG_SHA256)


@pytest.mark.parametrize(("page", "num_requests"), [("endless", 1), ("huge", 1), ("hundreds", 2)])
def test_a_stream_without_end_is_cut_off(fetch, server, tmp_path, monkeypatch, page, num_requests):
    monkeypatch.setattr(download_module, "MAX_BYTES", 1 << 20)
    reason = "no end after" if page == "hundreds" else "it has more than 1048576 bytes"
    check_refused(fetch, server, tmp_path, page, reason, num_requests)


@pytest.mark.parametrize("page", ["endless", "good"])
def test_the_disk_is_not_filled(fetch, server, tmp_path, monkeypatch, page):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(download_module.RESERVED_BYTES + 5000))
    check_refused(fetch, server, tmp_path, page, "it has more than 5000 bytes: at most 4 GiB", 1)


@pytest.mark.parametrize(
    ("page", "reason"), [("silent", "TimeoutError"), ("drip", "too slow"), ("dripheaders", "too slow")]
)
def test_a_slow_server_is_given_up(fetch, server, tmp_path, monkeypatch, page, reason):
    monkeypatch.setattr(download_module, "TIMEOUT_SEC", 0.2)
    check_refused(fetch, server, tmp_path, page, reason, 2)


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://127.0.0.1:{port}/good", "'http://127.0.0.1:{port}/good' is not https"),
        ("ftp://127.0.0.1/good", "'ftp://127.0.0.1/good' is not https"),
        ("file:///etc/hostname", "the server answered 302"),
        ("https://[", "is malformed"),
        ("https://127.0.0.1:port/", "the connection broke (InvalidURL"),
        ("https://" + 70 * "a" + "/", "is malformed"),
    ],
)
def test_bad_redirects_are_one_clear_line(fetch, server, tmp_path, location, reason):
    server.location = location.format(port=server.server_port)
    with pytest.raises(UserError, match=re.escape(reason.format(port=server.server_port))) as caught:
        fetch("to", num_attempts=1)
    assert str(caught.value).isprintable()
    assert cached(tmp_path) == []
    assert server.requests == ["/to"]


def test_transient_failures_are_tried_again(fetch, server, pauses, capsys):
    assert read(fetch("flaky", verbose=True)) == CONTENT
    assert pauses == [1, 2]
    lines = capsys.readouterr().out.splitlines()
    announced = [line for line in lines if line.startswith("Downloading")]
    assert announced == [
        f"Downloading {server.url}/flaky" + attempt for attempt in ("", ", attempt 2 of 3", ", attempt 3 of 3")
    ]


@pytest.mark.parametrize("cache", [True, False])
def test_nothing_of_a_broken_attempt_stays(fetch, cache):
    assert read(fetch("torn", cache=cache)) == CONTENT


def test_a_damaged_cached_file_is_fetched_again_if_the_checksum_is_known(fetch):
    path = fetch("good", return_filename=True)
    with open(path, "r+b") as file:
        file.write(b"!")
    assert read(fetch("good", sha256=SHA256)) == CONTENT


@pytest.mark.parametrize(("content", "fault"), [(b"", "an empty file"), (PAGE, "a web page")])
def test_a_cached_file_that_is_none_is_named(fetch, server, content, fault):
    path = fetch("good", return_filename=True)
    Path(path).write_bytes(content)
    with pytest.raises(UserError, match=re.escape(f"{path} is {fault}")):
        fetch("good")
    assert len(server.requests) == 1


def test_an_unknown_certificate_is_refused(fetch, server, tmp_path, monkeypatch):
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
    with pytest.raises(UserError, match=r"no connection .*CERTIFICATE_VERIFY_FAILED"):
        fetch("good")
    assert server.requests == []


def test_no_connection(pauses, tmp_path):
    with pytest.raises(UserError, match=r"no connection .*put it at"):
        open_url("https://127.0.0.1:1/x", cache_dir=tmp_path)
    assert pauses == [1, 2]


def test_a_full_disk_is_not_taken_for_a_network_fault(fetch, server, tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match="No space left"):
        fetch("good")
    assert len(server.requests) == 1
    assert cached(tmp_path) == []


def test_other_urls_are_refused_before_any_request(server):
    for url in (f"http://127.0.0.1:{server.server_port}/good", f"{server.url}/\x1b[2J", f"{server.url}/\u00e9"):
        with pytest.raises(UserError, match="only https URLs in ASCII") as caught:
            open_url(url)
        assert str(caught.value).isascii()
        assert str(caught.value).isprintable()
    assert server.requests == []


def test_an_opener_of_the_caller_sends_the_requests(server, tmp_path):
    context = ssl.create_default_context()
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
    opener.addheaders = [("User-Agent", "caller")]
    assert read(open_url(f"{server.url}/good", cache_dir=tmp_path, _opener=opener)) == CONTENT
    assert server.agents == ["caller"]


def test_local_paths_and_file_urls(tmp_path):
    path = tmp_path / "a file.pkl"
    path.write_bytes(CONTENT)
    assert read(open_url(path)) == CONTENT
    for sha256 in (SHA256, SHA256.upper()):
        assert read(open_url(str(path), sha256=sha256)) == CONTENT
    assert read(open_url(path.as_uri())) == CONTENT
    assert open_url(str(path), return_filename=True) == str(path)
    with pytest.raises(UserError, match=re.escape(f"{path}: sha256 is {SHA256}")):
        open_url(path, sha256=WRONG_SHA256)
    for missing in (tmp_path / "absent.pkl", tmp_path, "a\x1b[2J", "file:///absent", "file://["):
        with pytest.raises(UserError, match="no such file") as caught:
            open_url(missing)
        assert str(caught.value).isprintable()


def test_the_console_says_what_is_downloaded(fetch, server, capsys):
    fetch("good", verbose=True).close()
    fetch("good", verbose=True).close()
    assert capsys.readouterr().out == f"Downloading {server.url}/good\n"


@pytest.mark.parametrize(
    ("page", "first", "last"), [("good", "0.00 of 5.12k, ", "5.12k of 5.12k, "), ("chunked", "00:00", "5.12k, ")]
)
def test_the_progress_of_large_downloads_is_shown(fetch, monkeypatch, capsys, page, first, last):
    monkeypatch.setattr(download_module, "LARGE_BYTES", len(CONTENT))
    fetch(page, verbose=True).close()
    _, start, end = capsys.readouterr().out.splitlines()
    assert start.startswith(f"Download: {first}")
    assert end.startswith(f"Download: {last}")
