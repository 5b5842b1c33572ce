"""A server as a process: JSON-RPC a line each way, everything else it does kept within limits.

The SDK's own stdio transport reads lines of any length and logs what is no JSON; here a line has a limit, noise is counted,
the last words on stderr are kept for the error, and at the end the whole process group is gone.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter
from pydantic import ValidationError

Incoming = MemoryObjectReceiveStream[SessionMessage | Exception]
Outgoing = MemoryObjectSendStream[SessionMessage]
Ended = tuple[Literal["crashed", "flooded"], str]  # why a server is over: kind and words

GRACE_SECONDS = 1.0  # between the end of its input and the kill
LAST_WORDS = 2000


@dataclass(frozen=True, slots=True)
class Command:
    """A program and its arguments, variables beside the few it inherits (PATH, HOME and the like), and where it runs."""

    argv: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


class ServerProcess:
    """One run of a server. ``noise`` counts lines that were no JSON-RPC; ``ended`` says why it is over, when it is."""

    def __init__(self, command: Command, line_bytes: int) -> None:
        self.noise = 0
        self.ended: Ended | None = None
        self._command = command
        self._line_bytes = line_bytes
        self._noise_bytes = 0
        self._last_words = b""

    @asynccontextmanager
    async def streams(self) -> AsyncIterator[tuple[Incoming, Outgoing]]:
        """What it says and what it is told. Raises FileNotFoundError when there is no such program."""
        process = await asyncio.create_subprocess_exec(
            *self._command.argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=self._line_bytes,
            env={**get_default_environment(), **self._command.variables}, cwd=self._command.folder,
            start_new_session=True,
        )  # fmt: skip
        said, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        # Without a bound: a server that reads nothing must not hold up those who call it.
        outgoing, told = anyio.create_memory_object_stream[SessionMessage](math.inf)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._listen, process, said)
                tasks.start_soon(self._keep_last_words, process)
                tasks.start_soon(self._tell, process, told)
                try:
                    yield incoming, outgoing
                finally:
                    tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await _end(process)
            for stream in (said, incoming, outgoing, told):
                stream.close()

    async def _listen(self, process: Process, said: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        assert process.stdout is not None
        with said, suppress(anyio.BrokenResourceError):
            while self.ended is None:
                try:
                    line = await process.stdout.readline()
                except ValueError:
                    self.ended = "flooded", f"wrote a line of more than {self._line_bytes} bytes"
                    break
                if not line:
                    self.ended = "crashed", await self._how_it_went(process)
                elif (message := _parsed(line)) is not None:
                    await said.send(message)
                else:
                    self._count_noise(len(line))
            _kill(process)

    def _count_noise(self, num_bytes: int) -> None:
        self.noise += 1
        self._noise_bytes += num_bytes
        if self._noise_bytes > self._line_bytes:
            self.ended = "flooded", f"wrote more than {self._line_bytes} bytes that are no JSON-RPC"

    async def _how_it_went(self, process: Process) -> str:
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await process.wait()
        except TimeoutError:
            return "closed its output"
        words = self._last_words.decode(errors="replace").strip().splitlines()
        return f"ended with exit code {process.returncode}" + (f": {words[-1]}" if words else "")

    async def _keep_last_words(self, process: Process) -> None:
        assert process.stderr is not None
        while words := await process.stderr.read(LAST_WORDS):
            self._last_words = (self._last_words + words)[-LAST_WORDS:]

    async def _tell(self, process: Process, told: MemoryObjectReceiveStream[SessionMessage]) -> None:
        assert process.stdin is not None
        with told, suppress(ConnectionError):
            async for message in told:
                text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                process.stdin.write(text.encode() + b"\n")
                await process.stdin.drain()


def _parsed(line: bytes) -> SessionMessage | None:
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValidationError:
        return None


async def _end(process: Process) -> None:
    """Close its input, give it a moment, kill what is left of its group."""
    assert process.stdin is not None
    process.stdin.close()
    left = await _has_left(process)
    _kill(process)
    if not left:
        await _has_left(process)


async def _has_left(process: Process) -> bool:
    """Whether it ends, and nobody holds its pipes, within the grace."""
    with suppress(TimeoutError):
        async with asyncio.timeout(GRACE_SECONDS):
            for pipe in (process.stdout, process.stderr):
                while pipe is not None and await pipe.read(1 << 16):
                    pass  # one that has more to say could not end
            await process.wait()
            return True
    return False


def _kill(process: Process) -> None:
    """Its whole group: a server's children outlive it otherwise."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
