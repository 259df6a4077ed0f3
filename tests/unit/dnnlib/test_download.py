"""Downloads from a server in this process: plain http on 127.0.0.1, which only an injected opener may speak."""

import hashlib
import http.server
import io
import re
import threading
import urllib.error
import urllib.request
from email.message import Message

import pytest

from dnnlib import download as download_module
from dnnlib.download import DownloadError, download, https_opener
from dnnlib.util import UserError, open_url

CONTENT = bytes(range(256)) * 20
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WRONG_SHA256 = "0" * 64


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        getattr(self, "serve_" + self.path.split("/")[1].split(".")[0])()

    def head(self, status, length):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def serve_good(self):
        self.head(200, len(CONTENT))
        self.wfile.write(CONTENT)

    def serve_nolength(self):
        self.head(200, None)
        self.wfile.write(CONTENT)

    def serve_short(self):
        self.head(200, len(CONTENT))
        self.wfile.write(CONTENT[:1000])

    def serve_torn(self):
        if len(self.server.requests) == 1:
            self.head(200, 3 * len(CONTENT))
            self.wfile.write(2 * CONTENT)
        else:
            self.serve_good()

    def serve_absent(self):
        self.head(404, 0)

    def serve_flaky(self):
        if len(self.server.requests) < 3:
            self.head(503, 0)
        else:
            self.serve_good()

    def serve_silent(self):
        self.head(200, len(CONTENT))
        self.server.over.wait(10)

    def serve_drip(self):
        self.head(200, len(CONTENT))
        while not self.server.over.wait(0.02):
            self.wfile.write(b"x")

    def serve_moved(self):
        self.send_response(302)
        self.send_header("Location", "/good")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, request, client_address):
        pass  # a client that went away is part of the tests


@pytest.fixture
def server():
    server = Server(("127.0.0.1", 0), Handler)
    server.requests = []
    server.over = threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def opener():
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture
def fetch(server, opener, tmp_path):
    """Call open_url for a page of the server with the cache in tmp_path/cache."""

    def fetch(page, **kwargs):
        url = f"http://127.0.0.1:{server.server_port}/{page}"
        return open_url(url, cache_dir=tmp_path / "cache", verbose=False, _opener=opener, **kwargs)

    return fetch


def read(file):
    with file:
        return file.read()


def cached(tmp_path):
    folder = tmp_path / "cache"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("page", ["good/model.pkl", "nolength/model.pkl", "moved/model.pkl"])
def test_a_download_is_kept_and_used_again(fetch, server, tmp_path, page):
    assert read(fetch(page, sha256=SHA256.upper())) == CONTENT
    num_requests = len(server.requests)
    assert read(fetch(page)) == CONTENT
    path = fetch(page, return_filename=True)
    assert len(server.requests) == num_requests
    assert [path] == [str(tmp_path / "cache" / name) for name in cached(tmp_path)]
    assert path.endswith("-model.pkl")


def test_different_urls_with_one_basename_do_not_mix(fetch, tmp_path):
    fetch("good/a.pkl", return_filename=True)
    fetch("good/b/a.pkl", return_filename=True)
    assert len(cached(tmp_path)) == 2


def test_without_cache_nothing_is_written(fetch, tmp_path):
    assert isinstance(fetch("good", cache=False), io.BytesIO)
    assert read(fetch("good", cache=False, sha256=SHA256)) == CONTENT
    assert cached(tmp_path) == []
    with pytest.raises(ValueError, match="return_filename"):
        fetch("good", cache=False, return_filename=True)


@pytest.mark.parametrize(
    ("page", "kwargs", "reason", "num_requests"),
    [
        ("good", {"sha256": WRONG_SHA256}, f"its sha256 is {SHA256}, expected {WRONG_SHA256}", 1),
        ("short", {}, f"it ended after 1000 of {len(CONTENT)} bytes", 2),
        ("absent", {}, "the server answered 404", 1),
    ],
)
def test_a_bad_download_leaves_nothing_and_says_where_a_good_file_goes(
    fetch, server, tmp_path, monkeypatch, page, kwargs, reason, num_requests
):
    monkeypatch.setattr(download_module.time, "sleep", lambda _: None)
    with pytest.raises(UserError, match=re.escape(reason)) as caught:
        fetch(page, num_attempts=2, **kwargs)
    assert cached(tmp_path) == []
    assert len(server.requests) == num_requests
    # The file can be put by hand where the text says.
    place = str(caught.value).rsplit("put the file at ", 1)[1]
    with open(place, "wb") as file:
        file.write(CONTENT)
    assert read(fetch(page, sha256=SHA256)) == CONTENT
    assert len(server.requests) == num_requests


def test_a_passing_failure_is_tried_again(fetch, server, monkeypatch):
    pauses = []
    monkeypatch.setattr(download_module.time, "sleep", pauses.append)
    assert read(fetch("flaky")) == CONTENT
    assert pauses == [1, 2]


@pytest.mark.parametrize("cache", [True, False])
def test_nothing_of_a_broken_attempt_stays(fetch, monkeypatch, cache):
    monkeypatch.setattr(download_module.time, "sleep", lambda _: None)
    assert read(fetch("torn", cache=cache)) == CONTENT


def test_a_damaged_cached_file_is_fetched_again_if_the_checksum_is_known(fetch):
    path = fetch("good", return_filename=True)
    with open(path, "r+b") as file:
        file.write(b"!")
    assert read(fetch("good", sha256=SHA256)) == CONTENT


@pytest.mark.parametrize(("page", "reason"), [("silent", "broke"), ("drip", "too slow")])
def test_a_slow_server_is_given_up(server, opener, tmp_path, page, reason):
    url = f"http://127.0.0.1:{server.server_port}/{page}"
    with pytest.raises(DownloadError, match=reason):
        download(url, tmp_path / "file", num_attempts=1, timeout_sec=0.2, opener=opener)
    assert list(tmp_path.iterdir()) == []


def test_no_connection(opener, tmp_path):
    with pytest.raises(DownloadError, match="no connection"):
        download("http://127.0.0.1:1/x", tmp_path / "x", num_attempts=1, opener=opener)


def test_a_full_disk_is_not_taken_for_a_network_fault(server, opener):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        download(f"http://127.0.0.1:{server.server_port}/good", Full(), num_attempts=3, opener=opener)
    assert len(server.requests) == 1


def test_http_is_refused_before_any_request(server):
    with pytest.raises(UserError, match="only https"):
        open_url(f"http://127.0.0.1:{server.server_port}/good")
    with pytest.raises(DownloadError, match="is not https"):
        https_opener().open(f"http://127.0.0.1:{server.server_port}/good")
    assert server.requests == []


def test_a_redirect_from_https_to_http_is_refused(server):
    headers = Message()
    headers["Location"] = f"http://127.0.0.1:{server.server_port}/good"
    request = urllib.request.Request("https://host.invalid/x")
    request.timeout = 1
    with pytest.raises(DownloadError, match="is not https"):
        https_opener().error("https", request, io.BytesIO(), 302, "Found", headers)
    assert server.requests == []


@pytest.mark.parametrize("scheme", ["ftp", "file", "data"])
def test_the_opener_speaks_nothing_else(scheme):
    assert https_opener().open(f"{scheme}:///etc/hostname") is None


def test_local_paths_and_file_urls(tmp_path):
    path = tmp_path / "a file.pkl"
    path.write_bytes(CONTENT)
    assert read(open_url(path)) == CONTENT
    assert read(open_url(str(path), sha256=SHA256)) == CONTENT
    assert read(open_url(path.as_uri())) == CONTENT
    assert open_url(str(path), return_filename=True) == str(path)
    with pytest.raises(UserError, match=re.escape(f"{path}: sha256 is {SHA256}")):
        open_url(path, sha256=WRONG_SHA256)
    with pytest.raises(UserError, match="no such file"):
        open_url(tmp_path / "absent.pkl")
    with pytest.raises(UserError, match="no such file"):
        open_url(tmp_path)


def test_the_console_says_what_is_downloaded(server, opener, tmp_path, capsys):
    url = f"http://127.0.0.1:{server.server_port}/good"
    open_url(url, cache_dir=tmp_path, _opener=opener).close()
    open_url(url, cache_dir=tmp_path, _opener=opener).close()
    assert capsys.readouterr().out == f"Downloading {url}\n"
