"""One episode's world: state, tools, seeded and logged faults, and a log of every call (K2 §3.1, tool simulator)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from openk2.schema import JSON, CallError, ToolCall, ToolSpec
from openk2.worlds.spec import App
from openk2.worlds.state import Rows, State
from openk2.worlds.tools import compile_tools, execute, is_text

FAULT = "temporary failure, retry"
MOST_NESTED = 32  # levels of a call's arguments
encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


@dataclass(slots=True)
class Called:
    """One call as it happened. ``arguments`` is None when they were no JSON object; ``fault`` marks an injected one."""

    name: str
    arguments: JSON | None
    result: JSON
    fault: bool = False

    @property
    def failed(self) -> bool:
        """True when the tool turned the call down."""
        return "error" in self.result

    @property
    def touched(self) -> set[tuple[str, str]]:
        """The records it changed, for worlds that note them: entity and key."""
        return set()

    def to_json(self) -> JSON:
        """Plain JSON."""
        return {"name": self.name, "arguments": self.arguments, "result": self.result, "fault": self.fault}


class Simulator:
    """Executes the calls of one episode of a task. At most one fault strikes an episode."""

    def __init__(self, payload: Mapping[str, Any], seed: int, fault_rate: float) -> None:
        """``payload`` is a tool task's. Raises ValueError for a bad spec in it."""
        self.app = App.from_json(payload["app"])
        self._state = State(self.app, payload["rows"], payload["fresh"])
        self.initial: Rows = self._state.rows()
        self.log: list[Called] = []
        self._seed = seed
        self._fault_rate = fault_rate

    @property
    def tools(self) -> list[ToolSpec]:
        """The tools as a model sees them."""
        return compile_tools(self.app)

    def rows(self) -> Rows:
        """All records now."""
        return self._state.rows()

    def state_hash(self) -> str:
        """Hash of the logical rows now."""
        return self._state.hash()

    def run(self, call: ToolCall) -> str:
        """Execute one call and log it. Returns compact JSON; whatever is wrong with a call is in its ``error``."""
        arguments, error = parse_arguments(call)
        if error is not None:
            called = Called(call.name, None, {"error": error})
        elif self._strikes():
            called = Called(call.name, arguments, {"error": FAULT}, fault=True)
        else:
            called = Called(call.name, arguments, execute(self.app, self._state, call.name, arguments))
        self.log.append(called)
        return encode(called.result)

    def _strikes(self) -> bool:
        if self._fault_rate == 0 or any(called.fault for called in self.log):
            return False
        return Random(f"fault/{self._seed}/{len(self.log)}").random() < self._fault_rate

    def snapshot(self) -> JSON:
        """Records and log, as plain JSON."""
        return {"state": self._state.snapshot(), "log": [called.to_json() for called in self.log]}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to a snapshot of the same task."""
        self._state.restore(snapshot["state"])
        self.log = [Called(**called) for called in snapshot["log"]]

    def close(self) -> None:
        """Free the database."""
        self._state.close()


def parse_arguments(call: ToolCall) -> tuple[JSON | None, str | None]:
    """The arguments, or what is wrong with them."""
    if call.error is not None:
        return None, f"malformed call: {call.error.value}"
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return None, f"malformed call: {CallError.BAD_JSON.value}"
    if not isinstance(arguments, dict):
        return None, f"malformed call: {CallError.NOT_AN_OBJECT.value}"
    if not _can_be_kept(arguments):
        return None, f"malformed call: {CallError.BAD_JSON.value}"
    return arguments, None


def _can_be_kept(value: Any, depth: int = 0) -> bool:
    """Whether anybody reads it again once it is written: no NaN, no lone surrogate, no endless nesting."""
    if isinstance(value, str):
        return is_text(value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict | list):
        if depth == MOST_NESTED:
            return False
        for item in (*value, *value.values()) if isinstance(value, dict) else value:
            if not _can_be_kept(item, depth + 1):
                return False
    return True
