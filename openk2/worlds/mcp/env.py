"""Tasks over real servers as an environment: servers and a folder of their own for every episode (K2 §3.1, §3.2)."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from openk2.schema import Message, Observation, Rubric, Score, Task, Trace
from openk2.worlds.mcp.client import Limits, Server
from openk2.worlds.mcp.lock import Lock
from openk2.worlds.mcp.servers import SERVERS
from openk2.worlds.mcp.world import McpWorld


class McpEnv:
    """One episode at a time of a task over known servers; a message without calls is the final answer."""

    resumable: Literal["none"] = "none"

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        cache: Path | None = None,
        limits: Limits | None = None,
        locks: Mapping[str, Lock] | None = None,
    ) -> None:
        """``cache`` holds the installed servers, ``locks`` the accepted tools by server."""
        self._tasks = list(tasks)
        self._cache, self._limits, self._locks = cache, limits, locks or {}
        self._folder: Path | None = None
        self._world: McpWorld | None = None
        self._rubric: Rubric | None = None
        self._answer = ""

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of a split, as given."""
        return [task for task in self._tasks if task.split == split]

    async def reset(self, task: Task, seed: int) -> Observation:
        """Lay out the state, start the servers, and show the request. ``seed`` changes nothing: these worlds are real.

        Raises FileNotFoundError, with the install line, for a server that is not installed.
        """
        await self.close()
        assert task.rubric is not None, "a task over servers has a rubric"
        self._answer, self._folder = "", Path(tempfile.mkdtemp(prefix="openk2-mcp-")).resolve()
        self._rubric = Rubric.from_json(filled(task.rubric.to_json(), self._folder))
        try:
            self._world = await asyncio.to_thread(self._lay_out, task.payload["servers"], self._folder)
            await self._world.start()
        except BaseException:
            await self.close()
            raise
        return Observation([Message("user", filled(task.payload["request"], self._folder))], self._world.tools)

    def _lay_out(self, given: Mapping[str, Any], folder: Path) -> McpWorld:
        servers, states = [], []
        for name, beginning in given.items():
            known = SERVERS[name]
            if known.state is not None:
                states.append(known.state(folder))
                states[-1].lay_out(beginning)
            command = known.command(folder, self._cache)
            servers.append(Server(name, command, limits=self._limits, lock=self._locks.get(name)))
        return McpWorld(servers, states)

    async def step(self, message: Message) -> Observation:
        """Execute the message's calls in order; without calls it is the answer, and the episode ends."""
        world = self.world
        if not message.tool_calls:
            self._answer = message.content
            return Observation([], world.tools, terminated=True)
        results = [call.answered(await world.run(call)) for call in message.tool_calls]
        return Observation(results, world.tools)

    async def score(self, trace: Trace) -> Score:
        """Judge the episode just played by the state past the servers, the call log and the answer."""
        assert self._rubric is not None, "reset comes before score"
        return await self.world.score(self._rubric, self._answer)

    async def close(self) -> None:
        """End the episode's servers and remove its folder."""
        if self._world is not None:
            await self._world.close()
            self._world = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    @property
    def world(self) -> McpWorld:
        """The episode's world: its servers, log and state, to look at."""
        assert self._world is not None, "reset comes first"
        return self._world

    @property
    def folder(self) -> Path:
        """Where the episode's state lies."""
        assert self._folder is not None, "reset comes first"
        return self._folder

    def snapshot(self) -> bytes:
        """Raises ValueError: the state of a running server cannot be taken along."""
        raise ValueError("an episode over real servers cannot be paused")

    def restore(self, state: bytes) -> None:
        """Raises ValueError, as ``snapshot`` does."""
        raise ValueError("an episode over real servers cannot be resumed")


def filled(value: Any, folder: Path) -> Any:
    """The value with ``{folder}`` in its strings replaced."""
    if isinstance(value, str):
        return value.replace("{folder}", str(folder))
    if isinstance(value, Mapping):
        return {key: filled(inner, folder) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [filled(inner, folder) for inner in value]
    return value
