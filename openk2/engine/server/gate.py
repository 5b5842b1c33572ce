"""What stands before every request: host, key, size, time, draining, and clients that go away or do not read."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import re
from collections.abc import Iterable

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openk2.engine.server.answers import Served
from openk2.engine.server.errors import ApiError

_GUARDED = "/v1/"
_HOST = re.compile(r"(?:\[([^]]+)]|([^:]+))(?::[0-9]+)?")
_GRACE_SECONDS = 2.0  # for a client that reads to be told that its time is up


class Gate:
    """ASGI middleware. The application behind it gets whole bodies, and is cancelled when its client leaves.
    A client that has not taken its answer a little after ``request_seconds`` is hung up on.

    ``num_inside`` counts requests being answered. While the server drains, new ones under ``/v1/`` get 503.
    """

    def __init__(self, app: ASGIApp, served: Served) -> None:
        self._app, self._served, self._config = app, served, served.config
        self.num_inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self.num_inside += 1
        try:
            self._check(scope)
            body = await self._body(scope, receive)
        except ApiError as error:
            await _answer(error.response(), scope, receive, send)
        except _ClientLeftError:
            pass
        else:
            await self._until_client_leaves(scope, body, receive, send)
        finally:
            self.num_inside -= 1

    def _check(self, scope: Scope) -> None:
        if is_loopback(self._config.host) and not _names_loopback(_header(scope, b"host")):
            raise ApiError(400, "Host: this server answers to localhost and loopback addresses", code="wrong_host")
        if not scope["path"].startswith(_GUARDED):
            return
        if self._served.draining:
            raise shutting_down()
        key = self._config.api_key
        if key is not None and not hmac.compare_digest(_header(scope, b"authorization"), f"Bearer {key}".encode()):
            raise ApiError(
                401,
                "a bearer token is missing or wrong: send Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body, as long as it is not too large or too slow."""
        most = self._config.max_body_bytes
        too_large = ApiError(413, f"the body is larger than {most} bytes", code="body_too_large")
        announced = _header(scope, b"content-length")
        if announced.isdigit() and int(announced) > most:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._config.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _ClientLeftError
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise too_large
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            seconds = self._config.body_seconds
            raise ApiError(408, f"the body did not arrive within {seconds:g} s", code="body_too_slow") from None

    async def _until_client_leaves(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Run the application; a disconnect cancels it, which gives its slots back at once."""
        left = asyncio.Event()
        first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            if first:
                return first.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        answering = asyncio.ensure_future(self._app(scope, replay, send))
        watching = asyncio.ensure_future(watch())
        longest = self._config.request_seconds + _GRACE_SECONDS
        hanging_up = asyncio.get_running_loop().call_later(longest, scope["state"]["hang_up"])
        try:
            await asyncio.wait((answering, watching), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                left.set()
                answering.cancel()
                await asyncio.wait((answering,))
            if not answering.cancelled():
                answering.result()
        finally:
            hanging_up.cancel()
            watching.cancel()
            answering.cancel()


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means this machine alone."""
    if host.lower() == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def shutting_down() -> ApiError:
    """What is said while the last answers are sampled."""
    return ApiError(503, "the server is shutting down", code="shutting_down", headers={"Retry-After": "10"})


class _ClientLeftError(Exception):
    """Nobody is there to be answered."""


def _names_loopback(host: bytes) -> bool:
    """A web page elsewhere can bind a name of its own to this machine, but not make a browser send another's."""
    match = _HOST.fullmatch(host.decode("latin-1"))
    return match is not None and is_loopback(match[1] or match[2])


async def _answer(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    response.headers["Connection"] = "close"  # the rest of the body is not read
    await response(scope, receive, send)


def _header(scope: Scope, name: bytes) -> bytes:
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return next((value for key, value in headers if key == name), b"")
