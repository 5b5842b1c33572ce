"""One episode's world behind real servers: their tools, a log of every call, and their state as others see it (K2 §3.1).

It has the shape of the simulator, and runs asynchronously: tools, run, log, initial, rows, close.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence

from openk2.schema import JSON, CallError, Rubric, Score, ToolCall, ToolSpec
from openk2.worlds.judge import judge
from openk2.worlds.mcp.client import Server, ServerFailedError
from openk2.worlds.mcp.declare import callable_name
from openk2.worlds.mcp.state import State
from openk2.worlds.simulator import Called, encode
from openk2.worlds.state import Rows


class McpWorld:
    """Executes the calls of one episode over servers that belong to it alone.

    A call that a server failed, rather than the tool turned down, is logged with ``fault`` set: it was not the caller's doing.
    """

    def __init__(self, servers: Sequence[Server], states: Sequence[State] = ()) -> None:
        self.servers = list(servers)
        self.log: list[Called] = []
        self.initial: Rows = {}
        self._states = list(states)
        self._routes: dict[str, tuple[Server, str]] = {}
        self._tools: list[ToolSpec] = []

    async def start(self) -> None:
        """Connect all servers and read the state that the episode begins with.

        Raises what ``Server.connect`` raises; none of them is left running then.
        """
        try:
            connections = [server.connect() for server in self.servers]
            for failure in await asyncio.gather(*connections, return_exceptions=True):
                if failure is not None:
                    raise failure
            self.initial = await asyncio.to_thread(self.rows)
            self._route()
        except BaseException:
            await self.close()
            raise

    @property
    def tools(self) -> list[ToolSpec]:
        """The tools as a model sees them. Where two servers use a name, each tool is ``SERVER__NAME``."""
        return self._tools

    def rows(self) -> Rows:
        """The state of all servers now, read past them. Raises ValueError when two use a name for their records."""
        rows: Rows = {}
        for state in self._states:
            for entity, records in state.rows().items():
                if entity in rows:
                    raise ValueError(f"two servers of an episode keep records called {entity!r}")
                rows[entity] = records
        return rows

    async def run(self, call: ToolCall) -> str:
        """Execute one call and log it. Returns compact JSON; whatever is wrong with a call is in its ``error``."""
        called = await self._called(call)
        self.log.append(called)
        return encode(called.result)

    async def score(self, rubric: Rubric, answer: str) -> Score:
        """Judge the episode by the state as it is now, the log, and the final answer."""
        after = await asyncio.to_thread(self.rows)
        # A table may come or go in the episode.
        names = self.initial.keys() | after.keys()
        before, after = ({name: rows.get(name, {}) for name in names} for rows in (self.initial, after))
        return judge(rubric, before, after, self.log, answer)

    async def close(self) -> None:
        """End all servers."""
        await asyncio.gather(*(server.close() for server in self.servers))

    async def _called(self, call: ToolCall) -> Called:
        arguments = _arguments(call)
        if isinstance(arguments, CallError):
            return Called(call.name, None, {"error": f"malformed call: {arguments.value}"})
        if call.name not in self._routes:
            return Called(call.name, arguments, {"error": f"unknown tool {call.name}"})
        server, name = self._routes[call.name]
        try:
            return Called(call.name, arguments, await server.call(name, arguments))
        except ServerFailedError as failure:
            return Called(call.name, arguments, {"error": str(failure)}, fault=True)

    def _route(self) -> None:
        offered = [(server, name, spec) for server in self.servers for name, spec in server.offer.tools.items()]
        uses = Counter(spec.name for _, _, spec in offered)
        for server, name, spec in offered:
            shown = spec.name if uses[spec.name] == 1 else callable_name(f"{server.name}__{spec.name}")
            if shown in self._routes:
                raise ValueError(f"two tools of {server.name} would both be called {shown!r}")
            self._routes[shown] = server, name
            self._tools.append(ToolSpec(shown, spec.description, spec.parameters))


def _arguments(call: ToolCall) -> JSON | CallError:
    """The arguments, or what is wrong with them."""
    if call.error is not None:
        return call.error
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return CallError.BAD_JSON
    return arguments if isinstance(arguments, dict) else CallError.NOT_AN_OBJECT
