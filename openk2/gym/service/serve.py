"""Run a service until it is told to stop."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from openk2.gym.service.app import make_app
from openk2.gym.service.config import ServiceConfig
from openk2.schema import Env

HOST = "127.0.0.1"
_KEEP_SECONDS = 75  # an unused connection: longer than a client keeps one


def run(
    make_env: Callable[[str], Env], families: Sequence[str], config: ServiceConfig, say: Callable[[str], None]
) -> None:
    """Play episodes of ``families`` until SIGTERM or Ctrl-C, then close them all; within twice ``stop_seconds`` the process is gone.

    ``say`` gets one line when it listens and one when it has stopped. Raises OSError for a port that cannot be had, and what
    ``make_env`` raises for a family that it cannot make.
    """
    app = make_app(make_env, families, config, say)
    with contextlib.closing(_listen(config.port)) as listening:
        say(f"serving {', '.join(families)} on http://{HOST}:{listening.getsockname()[1]}")
        server = _Server(app, config.stop_seconds, say)
        server.run(sockets=[listening])
        server.deadline.cancel()


class _Server(uvicorn.Server):
    """Uvicorn, which returns after a signal instead of sending it to itself again, and waits for nothing without a limit."""

    def __init__(self, app: FastAPI, stop_seconds: int, say: Callable[[str], None]) -> None:
        quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}
        super().__init__(
            uvicorn.Config(
                app, lifespan="on", timeout_keep_alive=_KEEP_SECONDS, timeout_graceful_shutdown=stop_seconds, **quiet
            )
        )
        self._say = say
        self.deadline = threading.Timer(2 * stop_seconds, self._abandon)
        self.deadline.daemon = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal lets calls under way end, the second does not."""
        if not self.should_exit:
            self.deadline.start()
        self.should_exit, self.force_exit = True, self.should_exit

    def _abandon(self) -> None:
        """An event loop does not end before all its tasks and threads do, and an environment's may never."""
        self._say("left behind what does not stop")
        os._exit(1)


def _listen(port: int) -> socket.socket:
    # asyncio turns Nagle's delay off only where the protocol is named.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen(4096)
    except OSError as error:
        listening.close()
        raise OSError(f"cannot listen on {HOST} port {port}: {error.strerror}") from error
    return listening
