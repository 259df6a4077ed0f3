"""A page with sliders for directions in W, served to browsers on this machine.

Nothing that a request says is stored or executed: there are two addresses, ``/`` and ``/image``, and no files are
served. Requests that other web pages cause are refused by what browsers say about them: their ``Sec-Fetch-Site``, and
the name of this server in ``Host``, which would be another after DNS rebinding.
"""

from __future__ import annotations

import ipaddress
import math
import secrets
import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import torch

from dnnlib.click_types import MAX_SEED
from training.data.grid import encode_png
from training.inference.directions import move
from training.inference.sampling import can_truncate, map_seeds, synthesize
from training.inference.stored import StoredVectors
from training.run.page.html import embed_json

MAX_URL_CHARS = 4096
MAX_CONNECTIONS = 16
TIMEOUT_SEC = 10
MAX_SLIDERS = 50
TEXT = "text/plain; charset=utf-8"
LIMIT = 5.0
"""Largest strength, in standard deviations of w along a direction."""


class BadQueryError(ValueError):
    """A request for an image that cannot be drawn; the text says why."""


class Editor:
    """Draws the image that the sliders ask for; one image at a time.

    Args:
        G: The generator.
        directions: The directions, of which the first `MAX_SLIDERS` get sliders.
        layers: Layers that they change.
        label: ``[1, c_dim]``.
    """

    def __init__(self, G: Any, directions: StoredVectors, layers: list[int], label: torch.Tensor) -> None:
        self.G = G
        self.layers = layers
        self.label = label
        self.steps = (directions.vectors * directions.deviations[:, None])[:MAX_SLIDERS]
        self.nonce = secrets.token_hex(16)
        self._lock = threading.Lock()

    def page(self) -> bytes:
        """Return the page."""
        config = {
            "names": [f"Direction {i}" for i in range(len(self.steps))],
            "limit": LIMIT,
            "maxSeed": MAX_SEED,
            "canTruncate": can_truncate(self.G),
        }
        template = Path(__file__).with_name("editor.html").read_text(encoding="ascii")
        return template.replace("__NONCE__", self.nonce).replace("__CONFIG__", embed_json(config)).encode()

    def image(self, query: str) -> bytes:
        """Draw the image of ``seed=0&psi=1&d=0,1.5``, as a PNG file.

        Raises:
            BadQueryError: A value is missing, unknown or out of range.
        """
        try:
            values = {key: given[-1] for key, given in parse_qs(query, max_num_fields=3).items()}
        except ValueError as error:
            raise BadQueryError("too many values") from error
        if unknown := values.keys() - {"seed", "psi", "d"}:
            raise BadQueryError(f"unknown value {min(unknown)[:20]!a}")
        seed = values.get("seed", "0")
        if not (seed.isascii() and seed.isdecimal() and len(seed) <= len(str(MAX_SEED)) and int(seed) <= MAX_SEED):
            raise BadQueryError(f"seed must be a whole number up to {MAX_SEED}")
        psi = _number("psi", values.get("psi", "1"), 2)
        if psi != 1 and not can_truncate(self.G):
            raise BadQueryError("psi must be 1: this network cannot truncate")
        given = values["d"].split(",") if "d" in values else []
        if len(given) > len(self.steps):
            raise BadQueryError(f"d must be up to {len(self.steps)} numbers")
        strengths = torch.tensor([_number("d", text, LIMIT) for text in given], dtype=torch.float32)
        return self.draw(int(seed), psi, strengths)

    def draw(self, seed: int, psi: float, strengths: torch.Tensor) -> bytes:
        """Draw a seed at some strengths ``[K]`` of the first K directions, as a PNG file."""
        with self._lock:
            ws = map_seeds(self.G, [seed], self.label, psi)
            ws = move(ws, strengths @ self.steps[: len(strengths)], self.layers)
            pixels = synthesize(self.G, ws, noise_seeds=[seed])[0]
        return encode_png(pixels)


def _number(name: str, text: str, limit: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not abs(number) <= limit:
        raise BadQueryError(f"{name} must be a number from -{limit:g} to {limit:g}")
    return number


def is_loopback(host: str) -> bool:
    """Return whether a name or address is that of this machine for itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class EditorServer(ThreadingHTTPServer):
    """Serves an editor.

    Args:
        editor: The editor to serve.
        host: Address to listen at.
        port: Port; 0 for any.

    Raises:
        OSError: The address is not one of this machine, or the port is taken.
    """

    daemon_threads = True

    def __init__(self, editor: Editor, host: str, port: int) -> None:
        self.editor = editor
        self.host = host
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    @property
    def url(self) -> str:
        """Where browsers find it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_port}/"

    def allows_host(self, header: str) -> bool:
        """Return whether a ``Host`` header names this server, which no page of another site can make it do."""
        host = urlsplit(f"//{header}").hostname or ""
        if is_loopback(self.host):
            return is_loopback(host)
        return host == self.host.lower() or host == "localhost" or _is_address(host)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection, unless there are too many."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore connections that break."""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class _Handler(BaseHTTPRequestHandler):
    server: EditorServer
    timeout = TIMEOUT_SEC
    server_version, sys_version = "editor", ""

    def do_GET(self) -> None:
        editor = self.server.editor
        if len(self.path) > MAX_URL_CHARS:
            self._answer(HTTPStatus.REQUEST_URI_TOO_LONG, b"the address is too long")
        elif not self._is_from_here():
            self._answer(HTTPStatus.FORBIDDEN, b"requests come from the page of this server only")
        elif self.path == "/":
            self._answer(HTTPStatus.OK, editor.page(), "text/html; charset=utf-8")
        elif self.path.startswith("/image?"):
            self._answer(*self._image(self.path.partition("?")[2]))
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"there are / and /image only")

    def _image(self, query: str) -> tuple[HTTPStatus, bytes, str]:
        """Draw an image: status, content and its type of the answer."""
        try:
            return HTTPStatus.OK, self.server.editor.image(query), "image/png"
        except ValueError as error:  # also UserError: the image is not finite
            return HTTPStatus.BAD_REQUEST, str(error).encode("ascii", "backslashreplace"), TEXT
        except Exception as error:  # such as memory that has run out: the server goes on
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            reason = b"the image cannot be drawn; its console says why"
            return HTTPStatus.INTERNAL_SERVER_ERROR, reason, TEXT

    def _is_from_here(self) -> bool:
        site = self.headers.get("Sec-Fetch-Site", "none")
        try:
            return site in ("none", "same-origin") and self.server.allows_host(self.headers.get("Host", ""))
        except ValueError:
            return False

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str = TEXT) -> None:
        nonce = f"'nonce-{self.server.editor.nonce}'"
        policy = f"default-src 'none'; img-src blob:; connect-src 'self'; script-src {nonce}; style-src {nonce}"
        headers = {
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": f"{policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            "Cross-Origin-Resource-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: requests contain what their senders like."""
