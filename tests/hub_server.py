"""A stand-in for the Hugging Face hub on the loopback address: repositories of small files in memory."""

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock
from urllib.parse import urlsplit

TOKEN = "hf_secret"
Repositories = dict[str, dict[str, bytes]]
"""Contents by file by repository."""


class Hub(ThreadingHTTPServer):
    """Serves what the client library asks for when it reads and writes a repository."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories: Repositories = {}
        self.requested: list[str] = []
        """Paths of files that were asked for."""

    def commit(self, repo: str) -> str:
        return hashlib.sha1(repr(sorted(self.repositories[repo].items())).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, format: str, *args) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.reply(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            request = json.loads(body)
            repo = f"{request['organization']}/{request['name']}"
            self.server.repositories.setdefault(repo, {})
            self.reply(200, {"url": f"{self.server.url}/{repo}"})
        elif self.path.endswith("/preupload/main"):
            files = [file["path"] for file in json.loads(body)["files"]]
            self.reply(
                200, {"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in files]}
            )
        elif self.path.endswith("/commit/main"):
            self.store(self.path.removeprefix("/api/models/").removesuffix("/commit/main"), body)
        elif self.path == "/api/validate-yaml":
            self.reply(200, {"errors": [], "warnings": []})
        else:
            self.reply(404, {"error": f"The stand-in does not know {self.path}"})

    def store(self, repo: str, body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.server.repositories[repo][line["value"]["path"]] = content
        commit = self.server.commit(repo)
        self.reply(200, {"commitUrl": f"{self.server.url}/{repo}/commit/{commit}", "commitOid": commit})

    def do_GET(self) -> None:
        path = urlsplit(self.path).path.removeprefix("/api/models")
        repo = "/".join(path.split("/")[1:3])
        files = self.server.repositories.get(repo)
        if files is None:
            self.reply(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif "/resolve/" in path:
            self.send_content(repo, path.split("/")[5])
        elif "/tree/" in path:
            self.reply(
                200,
                [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in files.items()
                ],
            )
        else:
            siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
            self.reply(200, {"id": repo, "sha": self.server.commit(repo), "siblings": siblings})

    do_HEAD = do_GET

    def send_content(self, repo: str, name: str) -> None:
        content = self.server.repositories[repo].get(name)
        self.server.requested.append(name)
        if content is None:
            self.reply(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        else:
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            self.reply(200, content, {"ETag": etag, "X-Repo-Commit": self.server.commit(repo)})

    def reply(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextlib.contextmanager
def running_hub(cache: str) -> Iterator[Hub]:
    """Run a hub that the client library in this process takes for the real one, with its cache in ``cache``."""
    from huggingface_hub import constants

    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever)
        thread.start()
        places = {
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": cache,
            "HF_HUB_DISABLE_TELEMETRY": True,
        }
        try:
            with mock.patch.multiple(constants, **places):
                yield hub
        finally:
            hub.shutdown()
            thread.join()
