"""A model plays tools that have a spec but no server; what it has once said stays so (K2 §3.1, tool simulator).

Never for verified tasks: an imagined result proves nothing. A task that a program verifies is refused.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openk2.llm.endpoint import Endpoint
from openk2.llm.structured import Form, structured, what_is_wrong
from openk2.schema import JSON, Message, Sampling, Task, ToolCall, ToolSpec
from openk2.worlds.endpoint.quote import RULE, quoted

SAMPLING = Sampling(temperature=0.0, max_tokens=2048)
SHOWN_CALLS = 20  # earlier calls in a prompt; records are shown in full
INSTRUCTIONS = f"""You play the server behind a tool. You are given the tool's specification, the records the server
holds, the calls made so far, and a call. Answer as the server would: consistent with the records and with every
earlier answer, with an object that has the one key error where the call cannot be carried out. In records, give those
that this call adds or changes, by a key of your choice, and null for one it removes.

{RULE}"""
canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
TABLES = """
CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS calls (
    number INTEGER PRIMARY KEY, version INTEGER NOT NULL, tool TEXT NOT NULL, arguments TEXT NOT NULL,
    result TEXT NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class PlayedTool:
    """A tool to play: whether its calls change anything, and the JSON schema of its results, if it has one."""

    spec: ToolSpec
    writes: bool
    output: Mapping[str, Any] | None = None


class PlayedTools:
    """The tools of one unverified episode, played. State and every answer lie in SQLite at ``path``."""

    simulated = True

    def __init__(self, endpoint: Endpoint, task: Task, tools: Sequence[PlayedTool], path: Path | str) -> None:
        """``path`` may be ``":memory:"``. Raises ValueError for a task that a program verifies."""
        firm = [item.name for item in task.rubric.items if item.check != "judged"] if task.rubric else []
        if firm:
            raise ValueError(
                f"task {task.id}: {', '.join(firm)} are verified by program, which played tools cannot be; "
                "give it tools that run, or judged items alone"
            )
        self._endpoint = endpoint
        self._tools = {tool.spec.name: tool for tool in tools}
        self._database = sqlite3.connect(path)
        self._database.executescript(TABLES)
        self._one_at_a_time = asyncio.Lock()

    @property
    def tools(self) -> list[ToolSpec]:
        """The tools as a model sees them."""
        return [tool.spec for tool in self._tools.values()]

    async def run(self, call: ToolCall) -> str:
        """The result as JSON. A call that does not fit the tool's schema gets an ``error``, and nobody is asked.

        Equal reads get equal answers until a write. Raises ValueError when no valid result came, after repairs.
        """
        tool = self._tools.get(call.name)
        if tool is None:
            return canonical({"error": "no such tool"})
        arguments, error = _read_arguments(call, tool.spec)
        if error:
            return canonical({"error": error})
        async with self._one_at_a_time:  # each answer builds on the last; the endpoint's limits bound the wait
            told = None if tool.writes else self._told(call.name, arguments)
            return told if told is not None else await self._play(tool, arguments)

    def _told(self, name: str, arguments: str) -> str | None:
        """What the same read got since the last write."""
        row = self._database.execute(
            "SELECT result FROM calls WHERE tool = ? AND arguments = ? AND version = ?",
            (name, arguments, self._version()),
        ).fetchone()
        return None if row is None else str(row[0])

    def _version(self) -> int:
        """Writes so far."""
        return int(self._database.execute("SELECT COALESCE(MAX(version), 0) FROM calls").fetchone()[0])

    async def _play(self, tool: PlayedTool, arguments: str) -> str:
        messages = [Message("system", INSTRUCTIONS), Message("user", self._ask(tool, arguments))]
        filled = await structured(self._endpoint, messages, _form(tool), SAMPLING)
        if filled.value is None:
            raise ValueError(f"no valid result for {tool.spec.name}({arguments}): {filled.error}")
        result = canonical(filled.value["result"])
        self._keep(tool, arguments, result, filled.value.get("records", {}))
        return result

    def _ask(self, tool: PlayedTool, arguments: str) -> str:
        earlier = self._database.execute(
            "SELECT tool, arguments, result FROM calls ORDER BY number DESC LIMIT ?", (SHOWN_CALLS,)
        ).fetchall()
        calls = [{"tool": name, "arguments": given, "result": result} for name, given, result in reversed(earlier)]
        return "\n".join((
            quoted("tool", tool.spec.to_json()["function"] | {"changes records": tool.writes}),
            quoted("records", self.records()),
            quoted("earlier calls", calls),
            quoted("call", {"tool": tool.spec.name, "arguments": json.loads(arguments)}),
        ))  # fmt: skip

    def _keep(self, tool: PlayedTool, arguments: str, result: str, records: Mapping[str, Any]) -> None:
        """Store the answer and what it changes, both or neither."""
        version = self._version() + tool.writes
        with self._database:
            self._database.execute(
                "INSERT INTO calls (version, tool, arguments, result) VALUES (?, ?, ?, ?)",
                (version, tool.spec.name, arguments, result),
            )
            for key, value in records.items():
                self._database.execute("DELETE FROM records WHERE key = ?", (key,))
                if value is not None:
                    self._database.execute("INSERT INTO records VALUES (?, ?)", (key, canonical(value)))

    def records(self) -> JSON:
        """The state: all records by key."""
        rows = self._database.execute("SELECT key, value FROM records ORDER BY key")
        return {key: json.loads(value) for key, value in rows}

    def log(self) -> list[JSON]:
        """Every answer in order, each marked ``simulated``."""
        rows = self._database.execute("SELECT tool, arguments, result FROM calls ORDER BY number")
        return [
            {"name": name, "arguments": json.loads(given), "result": json.loads(result), "simulated": True}
            for name, given, result in rows
        ]

    def close(self) -> None:
        """Close the database."""
        self._database.close()


ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
    "additionalProperties": False,
}


def _form(tool: PlayedTool) -> Form[Any]:
    """The reply: a result as the tool's spec has it, or an error; and from a tool that writes, the records it changes."""
    output = dict(tool.output or {"type": "object"})
    definitions = output.pop("$defs", {})  # references in it start at the root
    properties: JSON = {"result": {"anyOf": [ERROR, output]}}
    if tool.writes:
        properties["records"] = {"type": "object"}
    schema = {
        "$defs": definitions,
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return Form.plain("reply", schema)


def _read_arguments(call: ToolCall, spec: ToolSpec) -> tuple[str, str]:
    """The arguments in canonical form, and what is wrong with them."""
    if call.error is not None:
        return "", f"malformed call: {call.error.value}"
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return "", "malformed call: bad_json"
    return canonical(arguments), what_is_wrong(arguments, spec.parameters)
