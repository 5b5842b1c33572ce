"""A page's server on a free port, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Self

import httpx2
from fastapi import FastAPI

from openk2.view.loopback import Server, address, listen
from tests.engine.server.browser import Browser


class Running:
    """``with Running(app) as server: server.get("/api/…")``."""

    def __init__(self, app: FastAPI) -> None:
        self._socket = listen(0)
        self._server = Server(app)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        self.address = address(self._socket)

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started:
            assert time.monotonic() < deadline, "waited 10 s for the server to start"
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=20)
        self._socket.close()
        assert not self._thread.is_alive()

    def get(self, path: str, **parameters: Any) -> httpx2.Response:
        return httpx2.get(self.address + path, params=parameters, timeout=30)


def assert_dark_and_light(browser: Browser, open_page: Callable[[], object]) -> None:
    """The page follows the system's theme, and its button turns it round."""
    grounds = []
    for theme in ("light", "dark"):
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        open_page()
        grounds.append(browser.do("getComputedStyle(document.body).backgroundColor"))
    browser.do("document.getElementById('theme').click()")
    grounds.append(browser.do("getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] == grounds[2] != grounds[1]
