"""A headless Chromium, driven by the DevTools protocol through two pipes; it needs no package."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TIMEOUT_SEC = 120


class Browser:
    """One tab; `problems` lists what its console and its network say.

    Args:
        profile: Empty folder for the browser's files.
    """

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        commands_out, self._commands = os.pipe()
        self._answers, answers_in = os.pipe()
        inherited = [fcntl.fcntl(pipe, fcntl.F_DUPFD, 10) for pipe in (commands_out, answers_in)]
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        flags += ["--remote-debugging-pipe", f"--user-data-dir={profile}"]

        def place_pipes() -> None:
            for descriptor, pipe in zip((3, 4), inherited, strict=True):  # where the browser looks for them
                os.dup2(pipe, descriptor)

        self._process = subprocess.Popen(
            [CHROMIUM, *flags], preexec_fn=place_pipes, pass_fds=(3, 4), stderr=subprocess.DEVNULL
        )
        for pipe in (commands_out, answers_in, *inherited):
            os.close(pipe)
        self._last_id, self._session, self._buffer = 0, None, b""
        self.problems: list[str] = []
        self._events: list[str] = []

    def __enter__(self) -> Browser:
        try:
            target = self.send("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.send(f"{domain}.enable")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the browser."""
        self._process.kill()
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._last_id += 1
        session = {} if self._session is None else {"sessionId": self._session}
        command = {"id": self._last_id, "method": method, "params": params, **session}
        data = json.dumps(command).encode() + b"\0"
        while data:
            data = data[os.write(self._commands, data) :]
        deadline = time.monotonic() + TIMEOUT_SEC
        while time.monotonic() < deadline:
            message = self._receive()
            if message.get("id") == self._last_id:
                assert "error" not in message, message
                return message["result"]
            self._note(message)
        raise TimeoutError(method)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            read = os.read(self._answers, 1 << 20)
            assert read, "the browser has ended"
            self._buffer += read
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, message: dict[str, Any]) -> None:
        method, params = message.get("method", ""), message.get("params", {})
        self._events.append(method)
        if method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"])[:500])
        elif method == "Log.entryAdded" or (method == "Runtime.consoleAPICalled" and params["type"] != "log"):
            self.problems.append(json.dumps(params)[:500])
        elif method == "Network.requestWillBeSent" and not params["request"]["url"].startswith(("data:", "file:")):
            self.problems.append(f"request of {params['request']['url'][:200]}")

    def open(self, path: Path, width_px: int, height_px: int = 800, is_dark: bool = False) -> None:
        """Open a page in a window of this size, and wait until it is loaded."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width_px,
            height=height_px,
            deviceScaleFactor=1,
            mobile=width_px < 600,
        )
        theme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[theme])
        self._events.clear()
        self.send("Page.navigate", url=path.absolute().as_uri())
        while "Page.loadEventFired" not in self._events:
            self._note(self._receive())

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, awaited if it is a promise."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key such as ArrowLeft."""
        codes = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Tab": 9}
        for kind in ("rawKeyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def screenshot(self, path: Path) -> None:
        """Save the whole page as a PNG file."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))
