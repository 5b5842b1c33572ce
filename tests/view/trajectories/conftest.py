from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from openk2.view.trajectories.app import application
from openk2.view.trajectories.catalog import Catalog
from openk2.view.trajectories.serve import Server, listen
from openk2.view.trajectories.sources import open_sources
from tests.view.trajectories.episodes import write_folder


class Made:
    """A folder of trajectories, and what went into it."""

    def __init__(self, folder: Path, num: int) -> None:
        self.folder = folder
        self.kept, self.rejected = write_folder(folder, num)
        self.all = [*self.kept, *self.rejected]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("trajectories") / "synthetic", 160)


@pytest.fixture(scope="session")
def catalog(made: Made) -> Catalog:
    return Catalog(open_sources(made.folder))


class Running:
    """The page's server on a free port, in a thread of its own."""

    def __init__(self, catalog: Catalog) -> None:
        self._socket = listen(0)
        app = application(catalog, "synthetic", None)
        self._server = Server(uvicorn.Config(app, lifespan="off", log_level="warning", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Running:
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


@pytest.fixture(scope="session")
def server(catalog: Catalog) -> Iterator[Running]:
    with Running(catalog) as running:
        yield running
