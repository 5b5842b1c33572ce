"""One MCP server as a client of ours: held to its lock, called within limits, started again when it fails.

Whatever a server does, one call costs one named error and the next call goes on, until its restarts are used up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mcp import ClientSession, MCPError
from mcp.types import CONNECTION_CLOSED, Tool
from pydantic import ValidationError

from openk2.schema import JSON, ToolSpec
from openk2.worlds.mcp.answers import answer
from openk2.worlds.mcp.declare import declare
from openk2.worlds.mcp.descriptions import Suspicion, suspicions
from openk2.worlds.mcp.lock import Lock, ToolsChangedError, fingerprint
from openk2.worlds.mcp.process import Command, Ended
from openk2.worlds.mcp.schemas import BadSchemaError
from openk2.worlds.mcp.session import Session

# How a server fails.
Kind = Literal["timeout", "crashed", "flooded", "changed", "protocol"]


class ServerFailedError(Exception):
    """A server failed, not the call: ``kind`` says how."""

    def __init__(self, kind: Kind, words: str) -> None:
        super().__init__(f"{kind}: {words}")
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server may take: seconds for its hello and for one call, bytes of one answer and of one line, restarts."""

    hello_seconds: float = 30.0
    call_seconds: float = 30.0
    answer_bytes: int = 32_768
    line_bytes: int = 8 << 20
    restarts: int = 2


@dataclass(slots=True)
class Offer:
    """What a server offers: usable tools by the names it knows them under, others with the reason, and what looks odd."""

    lock: Lock
    tools: dict[str, ToolSpec] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    suspicions: list[Suspicion] = field(default_factory=list)


class Server:
    """A server over stdio (a ``Command``) or streamable HTTP (an address). ``connect`` first, ``close`` at the end."""

    def __init__(
        self, name: str, where: Command | str, *, limits: Limits | None = None, lock: Lock | None = None
    ) -> None:
        """Without a ``lock`` the tools of the first connection are the accepted ones, for as long as this lives."""
        self.name = name
        self.limits = limits or Limits()
        self.lock = lock
        self.num_restarts = 0
        self._where = where
        self._noise_before = 0
        self._session: Session | None = None
        self._client: ClientSession | None = None
        self._offer: Offer | None = None
        self._starting = asyncio.Lock()

    @property
    def offer(self) -> Offer:
        """The tools as last listed."""
        assert self._offer is not None, "connect comes first"
        return self._offer

    @property
    def noise(self) -> int:
        """Lines on its stdout that were no JSON-RPC, over all restarts."""
        return self._noise_before + (self._session.noise if self._session is not None else 0)

    async def connect(self) -> None:
        """Start it and list its tools.

        Raises ServerFailedError when it does not come up, ToolsChangedError when its tools are not those of the lock.
        """
        await self._start()
        self.lock = self.lock or self.offer.lock
        if differences := self.lock.differences(self.offer.lock):
            await self.close()
            raise ToolsChangedError(self.name, differences)

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> JSON:
        """The tool's answer; what the tool itself turned down is in its ``error``. Calls may overlap.

        Raises ServerFailedError: no answer in time, a crash, a flood, an answer against the protocol, changed tools.
        """
        session, client = await self._ready()
        try:
            async with asyncio.timeout(self.limits.call_seconds):
                result = await client.call_tool(tool, dict(arguments))
        except TimeoutError:
            if not await session.is_alive(client):
                await self._drop(session)
            raise ServerFailedError(
                "timeout", f"{self.name} gave no answer to {tool} within {self.limits.call_seconds:g} s"
            ) from None
        except (MCPError, RuntimeError, ValidationError) as error:
            if session.ended is not None:
                raise ServerFailedError(session.ended[0], f"{self.name} {session.ended[1]}") from error
            if isinstance(error, MCPError) and error.code != CONNECTION_CLOSED:
                return {"error": error.message[: self.limits.answer_bytes]}
            said = str(error).partition("\n")[0][:200]
            raise ServerFailedError("protocol", f"{self.name} answered {tool} wrongly: {said}") from error
        return answer(result, self.limits.answer_bytes)

    def accept(self) -> Lock:
        """Take the tools it has now as the accepted ones."""
        self.lock = self.offer.lock
        return self.lock

    async def close(self) -> None:
        """End it, with all processes it started in its group."""
        if self._session is not None:
            await self._drop(self._session)

    async def _ready(self) -> tuple[Session, ClientSession]:
        """A live session whose tools are the accepted ones."""
        async with self._starting:
            assert self._offer is not None, "connect comes first"
            if self._session is not None and self._session.ended is not None:
                await self._drop(self._session)
            if self._session is None:
                if self.num_restarts >= self.limits.restarts:
                    raise ServerFailedError("crashed", f"{self.name} is over after {self.num_restarts} restarts")
                self.num_restarts += 1
                await self._start()
            assert self._session is not None
            assert self._client is not None
            if self._session.tools_stale:
                await self._list(self._session, self._client)
            assert self.lock is not None
            if differences := self.lock.differences(self.offer.lock):
                raise ServerFailedError("changed", str(ToolsChangedError(self.name, differences)))
            return self._session, self._client

    async def _start(self) -> None:
        session = Session(self._where, self.limits.line_bytes)
        try:
            client = await session.hello(self.limits.hello_seconds)
            await self._list(session, client)
        except TimeoutError:
            await session.close()
            words = f"{self.name} gave no hello within {self.limits.hello_seconds:g} s"
            raise ServerFailedError("timeout", words) from None
        except Exception as error:
            failure = _failure(self.name, session.ended, error)
            await session.close()
            raise failure from error
        except BaseException:
            await session.close()
            raise
        self._session, self._client = session, client

    async def _list(self, session: Session, client: ClientSession) -> None:
        async with asyncio.timeout(self.limits.hello_seconds):
            tools = await session.tools(client)
        info = client.server_info
        command = self._where.argv if isinstance(self._where, Command) else (self._where,)
        version = f"{info.name} {info.version}" if info is not None else ""
        hashes = {tool.name: fingerprint(tool.name, tool.description, tool.input_schema) for tool in tools}
        self._offer = offered(tools, Lock(self.name, command, version, hashes))

    async def _drop(self, session: Session) -> None:
        if self._session is session:
            self._session = self._client = None
            self._noise_before += session.noise
        await session.close()


def offered(tools: list[Tool], lock: Lock) -> Offer:
    """The tools as declarations of ours; one that cannot be declared is refused by name, and the others stay."""
    offer = Offer(lock)
    for tool in tools:
        offer.suspicions += suspicions(tool.name, [tool.description, tool.input_schema])
        try:
            offer.tools[tool.name], _ = declare(tool.name, tool.description, tool.input_schema)
        except BadSchemaError as bad:
            offer.refused[tool.name] = bad.reason
    return offer


def _failure(name: str, ended: Ended | None, error: Exception) -> ServerFailedError:
    """The first cause of what went wrong while it started, in one line."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if ended is not None and not isinstance(error, OSError):
        return ServerFailedError(ended[0], f"{name} {ended[1]}")
    said = str(error).partition("\n")[0] or type(error).__name__
    return ServerFailedError("crashed", f"{name} did not start: {said}")
