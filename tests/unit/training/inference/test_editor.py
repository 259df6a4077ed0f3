import http.client
import io
import socket
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from tests import tiny_snapshot
from training.inference import editor as editors
from training.inference.editor import Editor, EditorServer
from training.inference.sampling import class_label, map_seeds, synthesize
from training.inference.stored import StoredVectors

LABEL = class_label(tiny_snapshot.generator(), None, torch.device("cpu"))


def make_editor(**kwargs):
    stored = StoredVectors("directions", torch.eye(8)[:3], torch.tensor([1.0, 2.0, 3.0]), {})
    return Editor(tiny_snapshot.generator(**kwargs), stored, [0, 2], LABEL)


@pytest.fixture
def server():
    with EditorServer(make_editor(), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, path, method="GET", body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
    response = connection.getresponse()
    answer = response.status, response.read(), response.headers
    connection.close()
    return answer


def pixels(data):
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def test_the_image_is_that_of_the_sliders():
    editor = make_editor()
    G = editor.G
    ws = map_seeds(G, [7], LABEL, 0.5)
    np.testing.assert_array_equal(pixels(editor.image("seed=7&psi=0.5")), synthesize(G, ws)[0])
    ws[:, [0, 2], 1] += 2 * 1.5
    ws[:, [0, 2], 2] -= 3 * 0.5
    np.testing.assert_array_equal(pixels(editor.image("seed=7&psi=0.5&d=0,1.5,-0.5")), synthesize(G, ws)[0])
    np.testing.assert_array_equal(pixels(editor.image("")), synthesize(G, map_seeds(G, [0], LABEL))[0])


def test_grey_images():
    assert pixels(make_editor(img_channels=1).image("seed=1")).shape == (16, 16)


@pytest.mark.parametrize(
    "query",
    [
        *(
            "seed=-1",
            "seed=4294967296",
            "seed=1e3",
            "seed=\u0661",
            "seed=" + "9" * 5000,
            "seed=0x1",
            "file=/etc/passwd",
        ),
        *("psi=nan", "psi=inf", "psi=9", "psi=x", "d=1,2,3,4", "d=6", "d=nan", "d=", "d=1,,2"),
        *("seed=1&psi=1&d=1&d=1", "seed=1&" * 100),
    ],
)
def test_values_out_of_range_are_refused(query):
    if query == "d=":  # an empty value is none
        assert pixels(make_editor().image(query)).shape == (16, 16, 3)
        return
    with pytest.raises(editors.BadQueryError):
        make_editor().image(query)


def test_a_network_that_cannot_truncate():
    editor = make_editor()
    editor.G.mapping.w_avg = None
    assert b'"canTruncate":false' in editor.page()
    with pytest.raises(editors.BadQueryError, match="cannot truncate"):
        editor.image("psi=0.5")
    editor.image("seed=1")


def test_page_and_images_are_served(server):
    status, page, headers = ask(server, "/")
    assert status == 200
    assert b"Direction" in page
    assert b"__" not in page
    nonce = server.editor.nonce
    assert page.count(f'nonce="{nonce}"'.encode()) == 3
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'nonce-{nonce}'" in policy
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in headers
    status, image, headers = ask(server, "/image?seed=3&d=1,0,0")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert image == server.editor.image("seed=3&d=1,0,0")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        *(("/image", 404), ("/index.html", 404), ("/../edit.py", 404), ("/%2e%2e/edit.py", 404)),
        *(("/image?seed=x", 400), ("/image?/etc/passwd", 200), ("/image?a=/etc/passwd", 400)),
        *(("http://127.0.0.1/", 404), ("/image?" + "a" * 5000, 414), ("/" + "a" * 70_000, 414)),
    ],
)
def test_nothing_else_is_served(server, path, status):
    found, body, _headers = ask(server, path)
    assert found == status
    assert b"root:" not in body
    assert b"import" not in body


def test_an_image_that_cannot_be_drawn_is_answered_and_told_on_the_console(server, monkeypatch, capsys):
    def fail(query):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(server.editor, "image", fail)
    status, body, _headers = ask(server, "/image?seed=1")
    assert (status, body) == (500, b"the image cannot be drawn; its console says why")
    assert "RuntimeError: out of memory" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
def test_nothing_can_be_written(server, method):
    assert ask(server, "/", method, b"x" * 1000 if method != "HEAD" else None)[0] == 501


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8000"},
        {"Host": "192.168.0.1"},
        {"Host": ""},
        {"Host": "[::1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_requests_of_other_sites_are_refused(server, headers):
    assert ask(server, "/image?seed=1", **headers)[0] == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:99", "127.0.0.1", "[::1]:80"])
def test_names_of_this_machine_are_accepted(server, host):
    assert ask(server, "/", Host=host, Sec_Fetch_Site="same-origin")[0] == 200


def test_on_another_address_names_of_domains_are_refused():
    with EditorServer(make_editor(), "0.0.0.0", 0) as server:
        accepted = ("192.168.0.7:8000", "0.0.0.0", "localhost", "[fe80::1]:8000")
        assert [server.allows_host(host) for host in accepted] == [True] * 4
        assert [server.allows_host(host) for host in ("evil.example", "evil.example:8000", "")] == [False] * 3


def test_the_name_of_this_server_may_have_capital_letters():
    with EditorServer(make_editor(), "127.0.0.1", 0) as server:
        server.host = "MyHost"  # no name that every machine can resolve
        assert server.allows_host(f"MyHost:{server.server_port}")
        assert server.allows_host("myhost")
        server.host = "LOCALHOST"
        assert not server.allows_host("myhost")


@pytest.mark.slow
def test_connections_are_limited(server, monkeypatch):
    monkeypatch.setattr(editors._Handler, "timeout", 10)
    idle = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(editors.MAX_CONNECTIONS)]
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        ask(server, "/")
    for connection in idle:
        connection.close()
    for _ in range(100):  # until their threads have noticed
        try:
            assert ask(server, "/")[0] == 200
            return
        except (http.client.RemoteDisconnected, ConnectionError):
            threading.Event().wait(0.05)
    pytest.fail("connections stay taken")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LocalHost"])
def test_loopback(host):
    assert editors.is_loopback(host)
    assert not any(map(editors.is_loopback, ("0.0.0.0", "::", "192.168.0.1", "localhost.example", "")))


def test_addresses_of_the_page():
    with EditorServer(make_editor(), "127.0.0.1", 0) as server:
        assert server.url == f"http://127.0.0.1:{server.server_port}/"
