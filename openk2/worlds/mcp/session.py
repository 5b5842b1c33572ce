"""One connection to a server, held by a task of its own, since the SDK's contexts must be left by the task that entered them."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

from mcp import ClientSession, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ListToolsResult, PaginatedRequestParams, Tool, ToolListChangedNotification

from openk2.worlds.mcp.process import Command, Ended, ServerProcess

CLOSE_SECONDS = 5.0
PING_SECONDS = 2.0
MAX_TOOLS = 1000


class Session:
    """A server that said hello. ``tools_stale`` is set when it says that its tools changed."""

    def __init__(self, where: Command | str, line_bytes: int) -> None:
        self.tools_stale = False
        self._where = where
        self._process = ServerProcess(where, line_bytes) if isinstance(where, Command) else None
        self._stop = asyncio.Event()
        self._client: asyncio.Future[ClientSession] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold())

    async def hello(self, seconds: float) -> ClientSession:
        """The SDK's session, when the handshake is done.

        Raises TimeoutError without a hello in time, and what the transport raised: OSError, MCPError and the like.
        """
        async with asyncio.timeout(seconds):
            either: list[asyncio.Future[Any]] = [self._client, self._task]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not self._client.done():
                await self._task  # raises what went wrong
            client = self._client.result()
            await client.initialize()
            return client

    @property
    def ended(self) -> Ended | None:
        """Why it is over, as kind and words, when it is."""
        if self._process is not None and self._process.ended is not None:
            return self._process.ended
        return ("crashed", "closed the connection") if self._task.done() else None

    @property
    def noise(self) -> int:
        """Lines on stdout that were no JSON-RPC."""
        return self._process.noise if self._process is not None else 0

    async def tools(self, client: ClientSession) -> list[Tool]:
        """All pages of its tools. Raises ValueError for more than a thousand."""
        self.tools_stale = False
        tools: list[Tool] = []
        page: ListToolsResult = await client.list_tools()
        tools += page.tools
        while page.next_cursor is not None:
            if len(tools) > MAX_TOOLS:
                raise ValueError(f"more than {MAX_TOOLS} tools")
            page = await client.list_tools(params=PaginatedRequestParams(cursor=page.next_cursor))
            tools += page.tools
        return tools

    async def is_alive(self, client: ClientSession) -> bool:
        """Whether it answers a ping: one slow tool is no reason to kill a server."""
        with suppress(TimeoutError, MCPError, RuntimeError):
            async with asyncio.timeout(PING_SECONDS):
                await client.send_ping()
                return True
        return False

    async def close(self) -> None:
        """Leave, and end the process with its group."""
        self._stop.set()
        done, _ = await asyncio.wait([self._task], timeout=CLOSE_SECONDS)
        if not done:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CLOSE_SECONDS)
        self._client.cancel()
        if self._task.done() and not self._task.cancelled():
            self._task.exception()  # known already: a connection that failed says so to those who wait

    async def _hold(self) -> None:
        async with self._streams() as (read, write), ClientSession(read, write, message_handler=self._notice) as client:
            self._client.set_result(client)
            await self._stop.wait()

    def _streams(self) -> AbstractAsyncContextManager[tuple[Any, Any]]:
        if self._process is not None:
            return self._process.streams()
        assert isinstance(self._where, str)
        return streamable_http_client(self._where)

    async def _notice(self, message: object) -> None:
        if isinstance(message, ToolListChangedNotification):
            self.tools_stale = True
