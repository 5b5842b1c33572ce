"""Refusals in OpenAI's shape: ``{"error": {message, type, param, code}}``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from openk2.engine.engine import EngineError

_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """A request that is not answered, and why."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = status, message, param, code, headers

    def body(self) -> dict[str, Any]:
        """The JSON a client reads; also what a stream that breaks off ends with."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        """The same as an HTTP response."""
        return JSONResponse(self.body(), self.status, self.headers)


def from_failure(error: Exception) -> ApiError:
    """What a client is told when an answer fails on the way."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, TimeoutError):
        return ApiError(504, "the answer took longer than the server allows", code="timeout")
    if isinstance(error, EngineError):
        return ApiError(503, str(error), code="engine_error")
    return ApiError(500, "the server failed; its log says why", code="internal_error")


def install(app: FastAPI) -> None:
    """Have ``app`` say every error in this shape."""
    for kind in (ApiError, TimeoutError, EngineError, Exception):
        app.add_exception_handler(kind, _failed)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)


async def _failed(_: Request, error: Exception) -> Response:
    return from_failure(error).response()


async def _invalid(request: Request, error: Exception) -> Response:
    """The first thing wrong with a body; its input is not repeated, which may be large or no text at all."""
    assert isinstance(error, RequestValidationError)
    if isinstance(error.body, bytes):  # taken for no JSON, whatever it holds
        kind = request.headers.get("content-type", "missing")
        return ApiError(415, f"the content type must be application/json, it is {kind}", code="not_json").response()
    first = error.errors()[0]
    param = _where(first["loc"])
    said = first["msg"] if first["type"] != "json_invalid" else f"the body is no JSON: {first['ctx']['error']}"
    return ApiError(400, f"{param}: {said}" if param else said, param=param).response()


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return ApiError(error.status_code, error.detail, headers=error.headers).response()


def _where(location: Sequence[str | int]) -> str | None:
    """``("body", "messages", 0, "role")`` as ``messages.0.role``; None for the body as a whole."""
    path = [str(part) for part in location[1:]]
    return None if not path or isinstance(location[1], int) else ".".join(path)
