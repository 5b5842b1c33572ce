"""Environments behind an OpenEnv server (0.10): a session over its WebSocket, its actions as tools.

An MCP environment shows its own tools; any other has one tool, ``act``, whose parameters are the schema of its action. Only the
protocol is spoken: nothing of OpenEnv is installed here.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from openk2.gym.adapters.config import OpenEnvConfig
from openk2.gym.adapters.reward import verdict
from openk2.gym.adapters.seeds import seed_tasks
from openk2.schema import JSON, Message, Observation, Score, Task, ToolCall, ToolSpec, Trace

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

FAMILY = "openenv"
ACT = "act"
MOST_BYTES = 8 << 20  # of one message of the server
State = Literal["none", "open", "ended", "left", "cut", "hung", "server_gone"]


class ServerError(RuntimeError):
    """The server says no, or says what is not the protocol."""


class OpenEnv:
    """One episode at a time on one server (an ``Env``); a task is a seed. A message without calls ends an episode unfinished."""

    resumable: Literal["none"] = "none"

    def __init__(self, config: OpenEnvConfig) -> None:
        """Raises ValueError where websockets is missing."""
        try:
            from websockets.asyncio.client import connect
        except ModuleNotFoundError:
            raise ValueError("OpenEnv servers are spoken to with websockets: pip install websockets") from None
        self._config, self._connect = config, connect
        self._socket: ClientConnection | None = None
        self._tools: list[ToolSpec] = []
        self._rewards: list[float] = []
        self._num_steps = 0
        self._state: State = "none"

    def tasks(self, split: str) -> Sequence[Task]:
        """Seeds, "train" or "heldout" by a hash of them. Raises ValueError for another split."""
        return seed_tasks(FAMILY, self._config.kind, split, self._config)

    async def reset(self, task: Task, seed: int) -> Observation:
        """Open a session and reset it with the task's own seed.

        Raises OSError where no server answers, TimeoutError where it takes too long, ServerError where it says no.
        """
        await self.close()
        config = self._config
        self._rewards, self._num_steps = [], 0
        async with asyncio.timeout(config.reset_s):
            address = "ws" + config.url.removeprefix("http").rstrip("/") + "/ws"
            self._socket = await self._connect(address, max_size=MOST_BYTES, proxy=None)
            first = await self._told("reset", {**config.reset, "seed": task.payload["seed"]})
            self._tools = await self._offered()
        self._state = "open"
        shown = json.dumps(_bare(first["observation"]), ensure_ascii=False)
        return Observation([Message("user", f"{config.prompt}\n\n{shown}")], self._tools)

    async def step(self, message: Message) -> Observation:
        """Take the message's calls in order, until one ends the episode. Raises ValueError when no episode is open.

        A server that hangs or goes away ends it: ``info`` says how. What it refuses is the call's result.
        """
        if self._state != "open":
            raise ValueError("no episode is open: call reset first")
        self._num_steps += 1
        results = []
        if not message.tool_calls:
            self._state = "left"
        try:
            for call in message.tool_calls:
                done = self._state != "open"
                results.append(call.answered("error: the episode is over" if done else await self._called(call)))
        except (OSError, EOFError, TimeoutError, ServerError) as error:
            self._state = "hung" if isinstance(error, TimeoutError) else "server_gone"
            return Observation([], self._tools, truncated=True, info={"error": f"{type(error).__name__}: {error}"})
        if self._state == "open" and self._num_steps >= self._config.max_steps:
            self._state = "cut"
        return Observation(
            results, self._tools, terminated=self._state in ("ended", "left"), truncated=self._state == "cut"
        )

    async def score(self, trace: Trace) -> Score:
        """By the config's rule (``reward.py``). Parts ``hung``, ``server_gone``: what became of the server."""
        if self._state in ("hung", "server_gone"):
            return Score(0.0, {self._state: 1.0})
        return verdict(self._rewards, self._config.reward, self._config.passes_at, ended=self._state == "ended")

    async def close(self) -> None:
        """End the session."""
        socket, self._socket, self._state = self._socket, None, "none"
        if socket is not None:
            socket.transport.abort()  # no word more: the other side may not be listening

    def snapshot(self) -> bytes:
        """Raises ValueError: an episode cannot be taken up again."""
        raise ValueError(f"{FAMILY} episodes have no snapshot")

    def restore(self, state: bytes) -> None:
        """Raises ValueError: an episode cannot be taken up again."""
        raise ValueError(f"{FAMILY} episodes have no snapshot")

    async def _offered(self) -> list[ToolSpec]:
        told = await self._told("mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}})
        if told.get("result"):
            return [
                ToolSpec(tool["name"], tool["description"] or "", tool["inputSchema"])
                for tool in told["result"]["tools"]
            ]
        within = self._config.reset_s
        schema = (await asyncio.to_thread(_fetched, f"{self._config.url.rstrip('/')}/schema", within))["action"]
        shown = {name: about for name, about in schema["properties"].items() if name != "metadata"}
        return [ToolSpec(ACT, schema.get("description", ""), {**schema, "properties": shown})]

    async def _called(self, call: ToolCall) -> str:
        """What comes of a call, as text."""
        try:
            arguments = json.loads(call.arguments)
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict) or call.name not in {tool.name for tool in self._tools}:
            return f"error: call one of {', '.join(tool.name for tool in self._tools)} with a JSON object"
        action = arguments
        if call.name != ACT:
            action = {"type": "call_tool", "tool_name": call.name, "arguments": arguments}
        async with asyncio.timeout(self._config.step_s):
            try:
                told = await self._told("step", action)
            except _RefusedError as refused:
                return f"error: {refused}"
        if told.get("reward") is not None:
            self._rewards.append(float(told["reward"]))
        if told.get("done"):
            self._state = "ended"
        return _shown(_bare(told["observation"]))

    async def _told(self, kind: str, data: JSON) -> JSON:
        """The data of the server's answer."""
        from websockets.exceptions import ConnectionClosed

        assert self._socket is not None, "a session is open"
        try:
            await self._socket.send(json.dumps({"type": kind, "data": data}))
            answer = json.loads(await self._socket.recv())
        except ConnectionClosed as error:
            raise EOFError(f"the server closed the session: {error}") from error
        except ValueError as error:
            raise ServerError(f"the server does not speak JSON: {error}") from error
        told = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(told, dict):
            raise ServerError(f"the server answers {kind} with {str(answer)[:200]}")
        if answer.get("type") == "error":
            wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in told.get("errors", []))
            raise _RefusedError(f"{told.get('message')}{': ' if wrong else ''}{wrong}")
        return told


class _RefusedError(ServerError):
    """The server understood, and says no; the session goes on."""


def _bare(observation: JSON) -> JSON:
    """Without empty fields."""
    return {name: value for name, value in observation.items() if value not in (None, {}, [])}


def _shown(observation: JSON) -> str:
    """A tool's own result where there is one, or the whole observation."""
    if "tool_name" in observation:
        if "error" in observation:
            return f"error: {observation['error'].get('message')}"
        result = observation.get("result")
        told = result.get("data") if isinstance(result, dict) else result
        return told if isinstance(told, str) else json.dumps(told, ensure_ascii=False)
    return json.dumps(observation, ensure_ascii=False)


def _fetched(url: str, within: float) -> Any:
    with urllib.request.urlopen(url, timeout=within) as answer:
        return json.loads(answer.read(MOST_BYTES))
