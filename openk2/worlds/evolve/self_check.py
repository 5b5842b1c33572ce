"""Every tool tried: a call that must succeed, and calls that must be refused, each in records made for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from openk2.schema import JSON
from openk2.worlds.evolve.records import AMOUNT, NOWHERE, Records
from openk2.worlds.spec import App, Condition, Tool, split_role
from openk2.worlds.state import Rows, State
from openk2.worlds.tools import execute, parameters

FRESH = "fresh"  # the key that a new record takes


@dataclass(slots=True)
class SelfCheck:
    """What was tried: tools by operation, calls by case, and every call that did not go as it must."""

    num_tools: Counter[str] = field(default_factory=Counter)
    num_calls: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Case:
    """A call among records. ``refused`` is part of what the refusal says; without it the call must succeed."""

    name: str
    records: Records
    arguments: Any
    refused: str = ""


def self_check(apps: Iterable[App]) -> SelfCheck:
    """Try every tool of strict apps. A tool whose preconditions no record can meet, or break, is a fault as well."""
    found = SelfCheck()
    for app in apps:
        bench = Bench(app)
        for tool in app.tools:
            found.num_tools[tool.op] += 1
            try:
                for case in cases(app, tool):
                    found.num_calls[case.name] += 1
                    if fault := bench.fault(tool, case):
                        found.faults.append(f"{app.name}.{tool.name}, {case.name}: {fault}")
            except ValueError as error:
                found.faults.append(f"{app.name}.{tool.name}: {error}")
        bench.close()
    return found


def cases(app: App, tool: Tool) -> Iterator[Case]:
    """All that is tried of a tool. Raises ValueError where its preconditions cannot be met or broken."""
    records, roles = _ready(app, tool)
    good = tool.arguments(**roles)
    yield from _bad_arguments(app, tool, records, good)
    yield from _bad_roles(app, tool, records, roles)
    for condition in tool.requires:
        yield from _broken(app, tool, condition)
    if tool.op in ("create", "set", "update"):
        yield from _bad_values(app, tool)
    if tool.op == "remove":
        yield from _in_use(app, tool)
    yield Case("success", records, good)


def _ready(app: App, tool: Tool, broken: Condition | None = None) -> tuple[Records, JSON]:
    """Records in which the tool succeeds, or which only ``broken`` keeps from it; and the values of a call by role."""
    records, entity = Records(app), app.entity(tool.entity)
    fixed = records.meeting(tool, broken)
    if tool.op == "create":
        fields = [entity.field(param.role) for param in tool.params]
        return records, {f.name: fixed[f.name] if f.name in fixed else records.value(f) for f in fields}
    row = records.add(entity, **fixed)
    roles: JSON = {}
    for role in (param.role for param in tool.params):
        match role:
            case "key" | "source":
                roles[role] = row[entity.key]
            case "target":
                roles[role] = records.add(entity)[entity.key]
            case "amount":
                roles[role] = AMOUNT
            case "limit" if tool.op == "search":
                roles[role] = tool.limit
            case _ if tool.op in ("set", "update"):
                roles[role] = records.value(entity.field(role))
            case _:
                roles[role] = row[split_role(role)[0]]
    return records, roles


def _bad_arguments(app: App, tool: Tool, records: Records, good: JSON) -> Iterator[Case]:
    yield Case("no object", records, [good], "must be an object")
    yield Case("unknown argument", records, {**good, "": 1}, "only")
    schemas = parameters(app, tool)["properties"]
    for param in tool.params:
        if schemas[param.name].keys() & {"enum", "pattern"}:
            yield Case("wrong form", records, {**good, param.name: "?"}, "must be")
        yield Case("wrong type", records, {**good, param.name: None}, "must be")
        if not param.optional:
            rest = {name: value for name, value in good.items() if name != param.name}
            yield Case("missing argument", records, rest, "missing")


def _bad_roles(app: App, tool: Tool, records: Records, roles: JSON) -> Iterator[Case]:
    """Keys of no record, no amount, nothing to change."""

    def case(name: str, refused: str, /, **changed: Any) -> Case:
        return Case(name, records, tool.arguments(**{**roles, **changed}), refused)

    for role in ("key", "source", "target"):
        if role in roles:
            yield case("unknown key", "not found", **{role: NOWHERE})
    if tool.op == "find":
        column = app.entity(tool.entity).field(tool.field)
        yield case("unknown value", "not found", **{column.name: records.value(column)})
    if tool.op == "transfer":
        yield case("same ends", "are the same", target=roles["source"])
    if "amount" in roles:
        yield case("no amount", "amount must be positive", amount=0)
    if tool.op == "update" and all(param.optional or param.role == "key" for param in tool.params):
        yield Case("nothing given", records, tool.arguments(key=roles["key"]), "nothing to change")


def _broken(app: App, tool: Tool, condition: Condition) -> Iterator[Case]:
    """The precondition not met; and where it looks behind an optional ref, nothing there."""
    records, roles = _ready(app, tool, condition)
    yield Case("precondition", records, tool.arguments(**roles), " is ")
    entity = app.entity(tool.entity)
    if condition.via and entity.field(condition.via).optional:
        records, roles = _ready(app, tool)
        row = next(
            row for row in records.rows[entity.name] if row[entity.key] in (roles.get("key"), roles.get("source"))
        )
        row[condition.via] = ""
        yield Case("empty ref", records, tool.arguments(**roles), " is ")


def _bad_values(app: App, tool: Tool) -> Iterator[Case]:
    """A ref to nothing, a value that another record has."""
    entity = app.entity(tool.entity)
    for column in (entity.field(param.role) for param in tool.params if param.role != "key"):
        records, roles = _ready(app, tool)
        if column.ref:
            yield Case("ref to nothing", records, tool.arguments(**roles | {column.name: NOWHERE}), "not found")
        if column.unique:
            taken = records.add(entity)[column.name]
            yield Case("value taken", records, tool.arguments(**roles | {column.name: taken}), "is taken")


def _in_use(app: App, tool: Tool) -> Iterator[Case]:
    for entity in app.entities:
        for column in entity.fields:
            if column.ref == tool.entity:
                records, roles = _ready(app, tool)
                records.add(entity, **{column.name: roles["key"]})
                yield Case("in use", records, tool.arguments(**roles), "refers to it")


class Bench:
    """Runs cases in one state, filled anew only where the records differ from the last case's."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._state = State(app, {}, {})
        self._loaded: Records | None = None
        self._before: Rows = {}

    def close(self) -> None:
        """Free the state."""
        self._state.close()

    def fault(self, tool: Tool, case: Case) -> str:
        """What is wrong with how the call went, or nothing."""
        if case.records is not self._loaded:
            self._state.restore({"rows": case.records.rows, "fresh": {tool.entity: [FRESH]}})
            self._loaded, self._before = case.records, self._state.rows()
        result = execute(self._app, self._state, tool.name, case.arguments)
        after = self._state.rows()
        if case.refused:
            if case.refused not in result.get("error", ""):
                return f"answered {result}, wanted a refusal with {case.refused!r}"
            return "" if after == self._before else "refused and yet changed the records"
        self._loaded = None
        if "error" in result:
            return f"answered {result}, wanted success"
        roles = {param.role: case.arguments[param.name] for param in tool.params if param.name in case.arguments}
        if after != _expected(self._app, tool, self._before, roles):
            return "changed other records, or the right ones otherwise"
        return _wrong_answer(self._app, tool, self._before, roles, result)


def _expected(app: App, tool: Tool, rows: Rows, roles: JSON) -> Rows:
    """The records after the call, worked out apart from the executor."""
    table = {key: dict(row) for key, row in rows[tool.entity].items()}
    given = {role: value for role, value in roles.items() if role != "key"}
    entity = app.entity(tool.entity)
    match tool.op:
        case "create":
            table[FRESH] = {f.name: f.start for f in entity.fields} | {entity.key: FRESH} | given
        case "set" | "update":
            table[roles["key"]] |= given
        case "transition":
            table[roles["key"]][tool.field] = tool.target
        case "add" | "take":
            table[roles["key"]][tool.field] += AMOUNT if tool.op == "add" else -AMOUNT
        case "transfer":
            table[roles["source"]][tool.field] -= AMOUNT
            table[roles["target"]][tool.field] += AMOUNT
        case "remove":
            del table[roles["key"]]
    return rows | {tool.entity: table}


def _wrong_answer(app: App, tool: Tool, rows: Rows, roles: JSON, result: JSON) -> str:
    """What is wrong with a result, or nothing."""
    entity, table = app.entity(tool.entity), rows[tool.entity]
    match tool.op:
        case "get":
            wanted: JSON = {name: table[roles["key"]][name] for name in tool.returns}
        case "find":
            wanted = {entity.key: next(key for key, row in table.items() if row[tool.field] == roles[tool.field])}
        case "create":
            wanted = {entity.key: FRESH}
        case "search":
            shown = (entity.key, *tool.returns)
            records = [{name: row[name] for name in shown} for row in table.values()]
            wanted = {"count": len(records), "records": records}
        case "aggregate":
            numbers = [row[tool.field] for row in table.values()] if tool.field else []
            wanted = {"count": 1} | ({tool.measure: numbers[0]} if numbers else {})
        case _:
            wanted = {"ok": True}
    return "" if result == wanted else f"answered {result}, wanted {wanted}"
