"""Listen until told to stop; then finish what runs, within a limit."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from openk2.engine.engine import Engine
from openk2.engine.server.answers import Served
from openk2.engine.server.app import application
from openk2.engine.server.config import ServerConfig
from openk2.engine.server.gate import is_loopback
from openk2.engine.server.metrics import Metrics
from openk2.engine.server.vocabulary import Vocabulary


def serve(name: str, engine: Engine, vocabulary: Vocabulary, config: ServerConfig, say: Callable[[str], None]) -> None:
    """Answer requests for ``name`` until SIGTERM or Ctrl-C; returns when what ran is finished, or its time is up.

    ``say`` gets one line when it listens and one when it stops. Raises ValueError for an address beyond this
    machine without an API key, OSError for one that cannot be had.
    """
    if config.api_key is None and not is_loopback(config.host):
        raise ValueError(f"{config.host} can be reached from other machines: give --api-key-file, or use 127.0.0.1")
    served = Served(name, engine, vocabulary, config, Metrics(engine))
    with contextlib.closing(listen(config)) as listening:
        host = f"[{config.host}]" if ":" in config.host else config.host
        say(f"serving {name} on http://{host}:{listening.getsockname()[1]}")
        try:
            Server(served).run(sockets=[listening])
        finally:
            engine.close()
    say("stopped")


class Server(uvicorn.Server):
    """Uvicorn closes its door at once; this one first answers 503 at the door while the last answers are sampled."""

    def __init__(self, served: Served) -> None:
        self._gate, self._served = application(served), served
        quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}
        super().__init__(
            uvicorn.Config(self._gate, http=Connection, lifespan="off", timeout_graceful_shutdown=1, **quiet)
        )
        self._deadline = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the draining, the second ends it."""
        if self._served.draining:
            self.should_exit = True
        self._served.draining = True
        self._deadline = time.monotonic() + self._served.config.drain_seconds

    async def on_tick(self, counter: int) -> bool:
        """Whether to leave; asked ten times a second."""
        if self._served.draining and (not self._gate.num_inside or time.monotonic() > self._deadline):
            self.should_exit = True
        return await super().on_tick(counter)


class Connection(H11Protocol):
    """Uvicorn's, which can be hung up by whoever answers: what was written and not read yet is dropped."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there; ``scope["state"]["hang_up"]`` ends it."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "hang_up": transport.abort}


def listen(config: ServerConfig) -> socket.socket:
    """A socket that listens on the server's address. Raises OSError, naming it, when it cannot be had."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # Named as TCP: only then do accepted connections send small answers at once.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((config.host, config.port))
        listening.listen(1024)
    except OSError as error:
        listening.close()
        raise OSError(f"cannot listen on {config.host} port {config.port}: {error.strerror}") from error
    return listening
