"""The routes, and what every request passes on its way to them."""

from __future__ import annotations

import time
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from openk2 import __version__
from openk2.engine.server import chat, completions, errors
from openk2.engine.server.answers import Served
from openk2.engine.server.gate import Gate, shutting_down
from openk2.engine.server.metrics import Measured
from openk2.engine.server.requests import ChatRequest, CompletionRequest

PAGE = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
# The page is one file and talks to its own server alone.
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"
)


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is none."""

    error: ErrorDetail


def routes(served: Served) -> FastAPI:
    """The API as FastAPI publishes it under ``/openapi.json``."""
    refusals: dict[int | str, dict[str, Any]] = {status: {"model": ErrorBody} for status in ("4XX", "5XX")}
    # No /docs: its page loads scripts from elsewhere.
    app = FastAPI(title="openk2", version=__version__, docs_url=None, redoc_url=None, responses=refusals)
    errors.install(app)
    started = int(time.time())
    card = {"id": served.name, "object": "model", "created": started, "owned_by": "openk2",
            "max_model_len": served.engine.config.max_context}  # fmt: skip

    @app.get("/v1/models")
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [card]})

    @app.get("/v1/models/{name}")
    async def model(name: str) -> Response:
        served.check(name, 1)
        return JSONResponse(card)

    @app.post("/v1/completions")
    async def completion(request: CompletionRequest) -> Response:
        return await completions.complete(served, request)

    @app.post("/v1/chat/completions")
    async def chat_completion(request: ChatRequest) -> Response:
        return await chat.chat(served, request)

    @app.get("/health")
    async def health() -> Response:
        if served.draining:
            raise shutting_down()
        return JSONResponse({"status": "ok", "model": served.name})

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(served.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return HTMLResponse(PAGE, headers={"Content-Security-Policy": _PAGE_POLICY})

    return app


def application(served: Served) -> Gate:
    """The routes behind limits, key and metrics: what a server runs, over `serve.Connection`s."""
    app = routes(served)
    paths = frozenset(route.path for route in app.routes if isinstance(route, Route))
    return Gate(Measured(app, served.metrics, paths), served)
