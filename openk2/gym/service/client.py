"""The way to a service: kept connections, a limit on every wait, one repetition after a broken connection.

HTTP by hand, and only as much of it as a service on this machine answers with: a general client takes ten times the CPU of a call
(``bench/service.py``), and takes it from the process that samples.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncGenerator, Mapping
from functools import cache
from typing import Literal, cast
from urllib.parse import urlsplit

from openk2.agent import EnvFailedError
from openk2.gym.service import wire
from openk2.schema import JSON

MOST_IDLE = 256  # connections kept of one event loop
_JSON = {"Content-Type": "application/json"}
_BROKEN = (OSError, EOFError, asyncio.LimitOverrunError, http.client.HTTPException)
Resumable = Literal["snapshot", "replay", "none"]
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ServiceGoneError(ConnectionError):
    """Nobody answers at a service's address."""


class Service:
    """A service, for all episodes of this process. Use ``service_at``.

    Requests may be repeated: the service answers one that it has had before from memory. Every request raises EnvFailedError or,
    for ``timed_out``, TimeoutError when an environment broke; EnvFailedError when the service refused; TimeoutError when no
    answer came in time; ServiceGoneError when nobody is there.
    """

    def __init__(self, url: str) -> None:
        """Raises ValueError for an address that is none."""
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None or parts.port is None or parts.path.strip("/"):
            raise ValueError(f"a service's address is like http://127.0.0.1:8100, not {url!r}")
        self.url = url.rstrip("/")
        self._host, self._port = parts.hostname, parts.port
        self._head = f"HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\nContent-Length: "
        self._idle: dict[asyncio.AbstractEventLoop, tuple[AsyncGenerator[None, None], list[Connection]]] = {}
        self._families: Mapping[str, Resumable] | None = None

    async def post(self, path: str, body: JSON, seconds: float) -> JSON:
        """What the service answers."""
        content = wire.encode(body)
        request = f"POST {path} {self._head}{len(content)}\r\n\r\n".encode() + content
        try:
            async with asyncio.timeout(seconds):
                idle = await self._idle_here()
                try:
                    status, answer = await self._exchange(request, idle, fresh=False)
                except _BROKEN:
                    status, answer = await self._exchange(request, idle, fresh=True)
        except TimeoutError as error:
            raise self._late(path, seconds) from error
        except _BROKEN as error:
            raise self._gone(error) from error
        return self._read(path, status, answer)

    def ask(self, method: Literal["GET", "POST"], path: str, seconds: float, body: JSON | None = None) -> JSON:
        """What the service answers, for those who can wait: blocking, on a connection of its own."""
        content = None if body is None else wire.encode(body)
        try:
            try:
                status, answer = self._exchange_now(method, path, content, seconds)
            except TimeoutError:
                raise
            except _BROKEN:
                status, answer = self._exchange_now(method, path, content, seconds)
        except TimeoutError as error:
            raise self._late(path, seconds) from error
        except _BROKEN as error:
            raise self._gone(error) from error
        return self._read(path, status, answer)

    def resumable(self, family: str, seconds: float) -> Resumable:
        """How the family's episodes are taken up again; asked once. Raises ValueError for a family it does not have."""
        if self._families is None:
            self._families = self.ask("GET", "/health", seconds)["families"]
        if family not in self._families:
            raise ValueError(f"{self.url} has no family {family!r}; it has {', '.join(self._families)}")
        return self._families[family]

    async def _exchange(self, request: bytes, idle: list[Connection], *, fresh: bool) -> tuple[int, bytes]:
        """Status and body. ``fresh``: not over a kept connection, which may be as broken as the last."""
        while idle and not fresh:
            reader, writer = idle.pop()
            if not reader.at_eof():
                break
            writer.close()
        else:
            reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(request)
            await writer.drain()
            first, *headers = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
            length = next((line for line in headers if line.startswith(b"content-length:")), b":0").partition(b":")[2]
            status, answer = int(first.split()[1]), await reader.readexactly(int(length))
        except BaseException:
            writer.transport.abort()  # in the middle of something: nobody could tell whose answer comes next
            raise
        if len(idle) < MOST_IDLE and b"connection: close" not in headers:
            idle.append((reader, writer))
        else:
            writer.close()
        return status, answer

    def _exchange_now(self, method: str, path: str, content: bytes | None, seconds: float) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=seconds)
        try:
            connection.request(method, path, content, _JSON)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    async def _idle_here(self) -> list[Connection]:
        """The kept connections of this event loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._idle:
            idle: list[Connection] = []
            self._idle[loop] = owner, _ = self._own(loop, idle), idle
            await anext(owner)
        return self._idle[loop][1]

    async def _own(self, loop: asyncio.AbstractEventLoop, idle: list[Connection]) -> AsyncGenerator[None, None]:
        """A loop that shuts down ends the generators begun in it: there is no better moment to close what belongs to it."""
        try:
            yield
        finally:
            del self._idle[loop]
            for _, writer in idle:
                writer.close()

    def _read(self, path: str, status: int, answer: bytes) -> JSON:
        try:
            body = json.loads(answer)
            if status == 200:
                return cast(JSON, body)
            told, trouble = body["error"]["message"], body["error"]["trouble"]
        except (ValueError, TypeError, KeyError) as error:
            raise EnvFailedError("raised", f"{self.url} answered {path} with {status} {answer[:200]!r}") from error
        if trouble == "timed_out":
            raise TimeoutError(told)
        raise EnvFailedError(trouble or "raised", told if trouble else f"{self.url} refused {path}: {told}")

    def _late(self, path: str, seconds: float) -> TimeoutError:
        return TimeoutError(f"{self.url} gave no answer to {path} within {seconds:g} s")

    def _gone(self, error: Exception) -> ServiceGoneError:
        return ServiceGoneError(f"{self.url} is gone: {type(error).__name__} {error}")


@cache
def service_at(url: str) -> Service:
    """The service at an address; connections are shared."""
    return Service(url)
