"""A headless Chromium, told what to do over its own debugging protocol."""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

SECONDS = 30.0


class Browser:
    """One page. Expressions are evaluated in it; what throws there raises here."""

    def __init__(self, program: str, profile: Path) -> None:
        switches = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run"]
        self._log = profile / "log"
        profile.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program, *switches, f"--user-data-dir={profile}", "about:blank"], stderr=log, stdout=log
            )
        self._ids = itertools.count(1)
        self._session: str | None = None
        self._stack = ExitStack()
        self._socket = self._connect()

    def _connect(self) -> ClientConnection:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            for line in self._log.read_text(errors="replace").splitlines():
                if line.startswith("DevTools listening on "):
                    address = line.removeprefix("DevTools listening on ")
                    return self._stack.enter_context(connect(address, max_size=None))
            time.sleep(0.05)
        self._process.kill()
        raise TimeoutError(f"Chromium did not listen within {SECONDS} s: {self._log.read_text(errors='replace')}")

    def __enter__(self) -> Self:
        page = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._process.terminate()
        self._process.wait(timeout=SECONDS)

    def call(self, method: str, **parameters: Any) -> Any:
        """One command, and its answer."""
        number = next(self._ids)
        session = {} if self._session is None else {"sessionId": self._session}
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters, **session}))
        while True:
            message = json.loads(self._socket.recv(timeout=SECONDS))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def do(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Until it is true."""
        deadline = time.monotonic() + SECONDS
        while not self.do(expression):
            assert time.monotonic() < deadline, f"waited {SECONDS} s for {expression}"
            time.sleep(0.05)

    def open(self, address: str, *, width: int, height: int) -> None:
        """A page at a size; below 600 pixels it is a phone."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=address)
        self.wait_for("document.readyState === 'complete'")

    def screenshot(self, path: Path) -> None:
        """What can be seen, as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
