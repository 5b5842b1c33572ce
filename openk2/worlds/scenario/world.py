"""The world of one long task: several apps, their tools under the names an agent sees, faults, and a log of every call."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from openk2.schema import JSON, ToolCall
from openk2.worlds.scenario.faults import ERRORS, Fault, FaultRates
from openk2.worlds.simulator import Called, encode, parse_arguments
from openk2.worlds.spec import App, Entity, Tool
from openk2.worlds.state import Rows, State, Tables
from openk2.worlds.tools import execute


@dataclass(frozen=True)
class Stage:
    """One app of a task as it stands before the first call. ``fresh``: keys that new records will take, by entity."""

    app: App
    rows: Mapping[str, list[JSON]]
    fresh: Mapping[str, list[str]]

    @cached_property
    def databases(self) -> Tables:
        """The records as SQLite holds them: a task is played many times."""
        return Tables(self.app, self.rows)

    @cached_property
    def tables(self) -> Rows:
        """The records, the entities under APP.ENTITY."""
        return {
            f"{self.app.name}.{entity.name}": {
                row[entity.key]: row for row in sorted(self.rows[entity.name], key=lambda row: str(row[entity.key]))
            }
            for entity in self.app.entities
        }

    def to_json(self) -> JSON:
        """Plain JSON."""
        return {"app": self.app.to_json(), "rows": dict(self.rows), "fresh": dict(self.fresh)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Stage:
        """Read what ``to_json`` wrote. Raises ValueError for a bad spec."""
        return cls(App.from_json(data["app"]), data["rows"], data["fresh"])


By = Literal["agent", "user"]


@dataclass(slots=True)
class Logged(Called):
    """A call as it happened, with its fault's name, what it changed, and who made it."""

    struck: Fault | None = None
    changes: list[JSON] = field(default_factory=list)
    by: By = "agent"

    @property
    def touched(self) -> set[tuple[str, str]]:
        """The records it changed: APP.ENTITY and key."""
        return {(f"{change['app']}.{change['entity']}", change["key"]) for change in self.changes}

    def to_json(self) -> JSON:
        """Plain JSON."""
        return asdict(self)

    def to_record(self) -> JSON:
        """As a trajectory's record shows it."""
        return {
            "name": self.name,
            "arguments": self.arguments,
            "result": self.result,
            "fault": self.struck,
            "changes": self.changes,
        } | ({"by": self.by} if self.by != "agent" else {})


class _Watched(State):
    """A state that notes its changes, and how a record was before its last one."""

    def __init__(self, stage: Stage) -> None:
        self.changes: list[JSON] = []
        self.written: set[str] = set()
        self.before: dict[tuple[str, str], JSON] = {}
        self._name = stage.app.name
        super().__init__(stage.app, stage.databases, stage.fresh)

    def insert(self, entity: Entity, row: JSON) -> None:
        super().insert(entity, row)
        self.written.add(entity.name)
        self._note(entity, row[entity.key], None, None, row)

    def update(self, entity: Entity, key: str, field: str, value: str | int) -> None:
        before = self.get(entity, key)
        super().update(entity, key, field, value)
        self.written.add(entity.name)
        if before is not None and before[field] != value:
            self.before[entity.name, key] = before
            self._note(entity, key, field, before[field], value)

    def remove(self, entity: Entity, key: str) -> None:
        before = self.get(entity, key)
        super().remove(entity, key)
        self.written.add(entity.name)
        self._note(entity, key, None, before, None)

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        super().restore(snapshot)
        self.before.clear()
        self.written = {entity.name for entity in self.app.entities}

    def _note(self, entity: Entity, key: str, field: str | None, before: Any, after: Any) -> None:
        place = {"app": self._name, "entity": entity.name, "key": key, "field": field}
        self.changes.append({**place, "before": before, "after": after})


class _Tables(dict[str, dict[str, JSON]]):
    """Tables that are read when they are first asked for; those that nothing has written to are the initial ones."""

    def __init__(self, states: Mapping[str, _Watched], initial: Rows) -> None:
        super().__init__()
        self._states, self._initial = states, initial

    def __missing__(self, name: str) -> dict[str, JSON]:
        app, _, entity = name.partition(".")
        state = self._states[app]
        self[name] = state.table(state.app.entity(entity)) if entity in state.written else self._initial[name]
        return self[name]


class World:
    """Executes the calls of one episode."""

    def __init__(
        self,
        stages: tuple[Stage, ...],
        names: Mapping[str, tuple[str, str]],
        seed: int,
        rates: FaultRates,
        held: Collection[str] = (),
    ) -> None:
        """``names``: what a tool is called here, in the order of declaration, to its app and its name there.

        Those ``held`` are the user's to call and nobody else's.
        """
        self._apps = {stage.app.name: stage.app for stage in stages}
        self._states = {stage.app.name: _Watched(stage) for stage in stages}
        self._tools: dict[str, tuple[App, Tool]] = {}
        for name, (app, tool) in names.items():
            found = self._apps[app].find_tool(tool)
            if found is None:
                raise ValueError(f"{app} has no tool {tool}, which {name} stands for")
            self._tools[name] = (self._apps[app], found)
        self._seed, self._rates, self._held = seed, rates, held
        self.initial: Rows = {name: table for stage in stages for name, table in stage.tables.items()}
        self.log: list[Logged] = []

    def rows(self) -> Rows:
        """All records now, the entities under APP.ENTITY."""
        tables = self.look()
        return {name: tables[name] for name in self.initial}

    def look(self) -> Rows:
        """All records now, each table read when it is first looked at."""
        return _Tables(self._states, self.initial)

    def run(self, call: ToolCall, by: By = "agent") -> str:
        """Execute one call and log it. Returns compact JSON; whatever is wrong with a call is in its ``error``."""
        arguments, error = parse_arguments(call)
        if arguments is None:
            logged = Logged(call.name, None, {"error": error})
        elif call.name not in self._tools or (call.name in self._held) != (by == "user"):
            logged = Logged(call.name, arguments, {"error": "no such tool"})
        else:
            logged = self._execute(call.name, arguments)
        logged.by = by
        self.log.append(logged)
        return encode(logged.result)

    def _execute(self, name: str, arguments: JSON) -> Logged:
        app, tool = self._tools[name]
        state = self._states[app.name]
        state.changes = []
        struck = self._fault()
        if struck in ERRORS:
            return Logged(name, arguments, {"error": ERRORS[struck]}, fault=True, struck=struck)
        if struck == "stale" and (shown := self._as_it_was(app, tool, state, arguments)) is not None:
            return Logged(name, arguments, shown, fault=True, struck=struck)
        if struck == "partial" and (half := _first_field_alone(tool, arguments)) is not None:
            result = execute(app, state, tool.name, half)
            if "error" not in result:
                result |= {"incomplete": True}
                return Logged(name, arguments, result, fault=True, struck=struck, changes=state.changes)
            return Logged(name, arguments, result)
        result = execute(app, state, tool.name, arguments)
        return Logged(name, arguments, result, changes=state.changes)

    def _fault(self) -> Fault | None:
        if sum(called.fault for called in self.log) >= self._rates.most:
            return None
        return self._rates.draw(self._seed, len(self.log))

    def _as_it_was(self, app: App, tool: Tool, state: _Watched, arguments: JSON) -> JSON | None:
        """What a cache would show of a record that the episode has changed."""
        if tool.op != "get":
            return None
        key = arguments.get(tool.params[0].name)
        before = state.before.get((tool.entity, key)) if isinstance(key, str) else None
        return None if before is None else {name: before[name] for name in tool.returns} | {"stale": True}

    def snapshot(self) -> JSON:
        """Records and log, as plain JSON."""
        return {
            "states": {name: state.snapshot() for name, state in self._states.items()},
            "log": [logged.to_json() for logged in self.log],
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to a snapshot of the same task. A stale read shows nothing from before it."""
        for name, state in self._states.items():
            state.restore(snapshot["states"][name])
        self.log = [Logged(**logged) for logged in snapshot["log"]]

    def close(self) -> None:
        """Free the databases."""
        for state in self._states.values():
            state.close()


def _first_field_alone(tool: Tool, arguments: JSON) -> JSON | None:
    """An update's arguments with the first of several fields only."""
    if tool.op != "update":
        return None
    fields = [param.name for param in tool.params if param.role != "key" and param.name in arguments]
    if len(fields) < 2:
        return None
    return {name: value for name, value in arguments.items() if name not in fields[1:]}
