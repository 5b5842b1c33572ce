"""A page for the person at this machine: served on the loopback address alone, loading nothing from elsewhere."""

from __future__ import annotations

import json
import socket
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

HOST = "127.0.0.1"
# The page is one file and talks to its own server alone.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"


class Ascii(JSONResponse):
    """JSON in ASCII: a trace may hold half a surrogate pair, which UTF-8 cannot."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def application(title: str, page: str) -> FastAPI:
    """An application that answers ``/`` with the page, and any mistake with one line under the key ``error``.

    Routes may raise ValueError (409: what they read has changed) and TimeoutError (504).
    """
    app = FastAPI(title=title, docs_url=None, redoc_url=None, openapi_url=None)
    # A web page elsewhere can bind a name of its own to this machine, but not make a browser send another's.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return refusal(400, f"{first['loc'][-1]}: {first['msg']}")

    @app.exception_handler(TimeoutError)
    def too_slow(_: Request, error: TimeoutError) -> Response:
        return refusal(504, str(error))

    @app.exception_handler(ValueError)
    def changed(_: Request, error: ValueError) -> Response:
        return refusal(409, str(error))

    @app.get("/")
    def root() -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})

    return app


def refusal(status: int, message: str) -> Response:
    """An answer that says in one line why there is none."""
    return Ascii({"error": message}, status)


def listen(port: int) -> socket.socket:
    """A socket on this machine alone. Raises OSError, naming the port, when it cannot be had."""
    if not 0 <= port <= 65535:
        raise ValueError(f"--port {port}: a port lies between 0 and 65535")
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise OSError(f"cannot listen on {HOST} port {port}: {error.strerror}") from error


def address(listening: socket.socket) -> str:
    """Where a browser finds it."""
    return f"http://{HOST}:{listening.getsockname()[1]}"


class Server(uvicorn.Server):
    """Uvicorn raises the signal that ended it once more; here Ctrl-C is how one leaves."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(uvicorn.Config(app, lifespan="off", log_level="warning", timeout_graceful_shutdown=1))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal ends it."""
        self.should_exit = True
