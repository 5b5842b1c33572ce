"""What a spec compiles to: the JSON schema a model sees, and an executor over state.

A wrong call never raises. It gets a compact ``{"error": "…"}``, as a model should see it. No answer repeats what the
caller sent: a fact counts as known once a result shows it, so an echo would let a guess pass for knowledge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from openk2.schema import JSON, ToolSpec
from openk2.worlds.spec import App, Condition, Entity, Field, Tool, split_role
from openk2.worlds.state import Filter, State

LARGEST = 10**12  # SQLite holds 64-bit integers; nothing here comes near

# How text of these types looks in a strict app, and what a refusal says of it.
PATTERNS: Mapping[str, tuple[str, str]] = {
    "date": (r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", "a date like 2027-03-14"),
    "time": (r"^[0-9]{2}:[0-9]{2}$", "a time like 14:35"),
    "email": (r"^[^@\s]+@[^@\s]+$", "an email address"),
}
MEANT = dict(PATTERNS.values())


class Refusal(Exception):  # noqa: N818 - not an error of the program: what the tool answers
    """A call that the tool turns down; the text is its answer."""


def compile_tools(app: App) -> list[ToolSpec]:
    """The tools as a model sees them, in the app's order."""
    return [ToolSpec(tool.name, tool.description, parameters(app, tool)) for tool in app.tools]


def parameters(app: App, tool: Tool) -> JSON:
    """The JSON schema of a tool's arguments."""
    properties = {param.name: _schema(app, tool, param.role) for param in tool.params}
    required = [param.name for param in tool.params if not param.optional]
    return {"type": "object", "properties": properties, "required": required}


def _schema(app: App, tool: Tool, role: str) -> JSON:
    if role == "amount":
        return {"type": "integer"}
    if role in ("key", "source", "target"):
        return {"type": "string"}
    if role == "limit" and tool.op == "search":
        return {"type": "integer", "minimum": 1, "maximum": tool.limit}
    field = app.entity(tool.entity).field(split_role(role)[0])
    if field.values:
        return {"type": "string", "enum": list(field.values)}
    if app.strict and field.type in PATTERNS:
        return {"type": "string", "pattern": PATTERNS[field.type][0]}
    return {"type": "integer" if field.is_number else "string"}


def execute(app: App, state: State, name: str, arguments: Any) -> JSON:
    """Run one call. The result is flat JSON, for search with a list of flat records under ``records``.

    ``{"error": reason}`` leaves the state as it was.
    """
    tool = app.find_tool(name)
    if tool is None:
        return {"error": "no such tool"}
    entity = app.entity(tool.entity)
    try:
        by_name = validate(parameters(app, tool), arguments)
        roles = {param.role: by_name[param.name] for param in tool.params if param.name in by_name}
        return RUN[tool.op](state, entity, tool, roles)
    except Refusal as refusal:
        return {"error": str(refusal)}


def validate(schema: Mapping[str, Any], arguments: Any) -> JSON:
    """Arguments that obey the schema, or a ``Refusal`` naming the parameter and what would be right."""
    if not isinstance(arguments, dict):
        raise Refusal("arguments must be an object")
    properties = schema["properties"]
    for name in arguments:
        if name not in properties:
            raise Refusal(f"takes {', '.join(properties)} only")
    for name, wanted in properties.items():
        if name in arguments:
            _validate_value(name, wanted, arguments[name])
        elif name in schema["required"]:
            raise Refusal(f"missing {name}")
    return dict(arguments)


def _validate_value(name: str, wanted: Mapping[str, Any], value: Any) -> None:
    if wanted["type"] == "integer":
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) > LARGEST:
            raise Refusal(f"{name} must be an integer")
        if "maximum" in wanted and not wanted["minimum"] <= value <= wanted["maximum"]:
            raise Refusal(f"{name} must be {wanted['minimum']} to {wanted['maximum']}")
    elif not isinstance(value, str) or not is_text(value):
        raise Refusal(f"{name} must be a string")
    if "enum" in wanted and value not in wanted["enum"]:
        raise Refusal(f"{name} must be one of those listed")
    if "pattern" in wanted and not re.fullmatch(wanted["pattern"], value):
        raise Refusal(f"{name} must be {MEANT[wanted['pattern']]}")


def is_text(value: str) -> bool:
    """False for what has no UTF-8 form (lone surrogates), which SQLite refuses."""
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)


def _record(state: State, entity: Entity, key: str) -> JSON:
    row = state.get(entity, key)
    if row is None:
        raise Refusal(f"{entity.label} not found")
    return row


def _require(state: State, tool: Tool, entity: Entity, row: JSON, amount: int = 0) -> None:
    """Every precondition, on a record or the arguments that will be one."""
    for condition in tool.requires:
        if condition.via:
            link = entity.field(condition.via)
            holder = state.app.entity(link.ref)
            pointed_at = state.get(holder, row[link.name])
            if pointed_at is None:
                raise Refusal(f"{link.label} is missing" if row[link.name] == "" else f"{link.label} not found")
            _test(condition, holder.field(condition.field), pointed_at, 0, f"{link.label} ")
        else:
            _test(condition, entity.field(condition.field), row, amount)


def _test(condition: Condition, field: Field, row: JSON, amount: int, whose: str = "") -> None:
    value = row[field.name]
    match condition.test:
        case "in":
            met = value in condition.values
        case "filled":
            if value == "":
                raise Refusal(f"{whose}{field.label} is missing")
            return
        case "at_least":
            met = value >= amount
        case "no_less":
            met = value >= condition.bound
        case "no_more":
            met = value <= condition.bound
    if not met:
        raise Refusal(f"{whose}{field.label} is {value}")


def _positive(amount: int) -> int:
    if amount <= 0:
        raise Refusal("amount must be positive")
    return amount


def _can_hold(state: State, entity: Entity, field: str, value: str | int, key: str | None) -> None:
    """Unique values are free, and in a strict app refs lead to a record."""
    column = entity.field(field)
    if column.unique:
        other = state.find(entity, field, value)
        if other is not None and other[entity.key] != key:
            raise Refusal(f"{column.label} is taken")
    if not column.ref or not state.app.strict or (column.optional and value == ""):
        return
    if state.get(state.app.entity(column.ref), str(value)) is None:
        raise Refusal(f"{column.label} not found")


def _get(state: State, entity: Entity, tool: Tool, roles: JSON) -> JSON:
    row = _record(state, entity, roles["key"])
    return {name: row[name] for name in tool.returns}


def _find(state: State, entity: Entity, tool: Tool, roles: JSON) -> JSON:
    row = state.find(entity, tool.field, roles[tool.field])
    if row is None:
        raise Refusal(f"{entity.label} not found")
    return {entity.key: row[entity.key]}


def _search(state: State, entity: Entity, tool: Tool, roles: JSON) -> JSON:
    limit = roles.pop("limit", tool.limit)
    count, rows = state.search(entity, _filters(roles), tool.order, limit)
    shown = (entity.key, *tool.returns)
    return {"count": count, "records": [{name: row[name] for name in shown} for row in rows]}


def _aggregate(state: State, entity: Entity, tool: Tool, roles: JSON) -> JSON:
    count, value = state.measure(entity, _filters(roles), tool.measure, tool.field)
    if tool.measure == "count":
        return {"count": count}
    if value is None:
        raise Refusal(f"no {entity.label} found")
    return {"count": count, tool.measure: value}


def _filters(roles: JSON) -> list[Filter]:
    return [(*split_role(role), value) for role, value in roles.items()]


def _create(state: State, entity: Entity, tool: Tool, roles: JSON) -> JSON:
    for field, value in roles.items():
        _can_hold(state, entity, field, value, None)
    _require(state, tool, entity, roles)
    key = state.next_key(entity)
    if key is None:
        raise Refusal("limit reached")
    state.insert(entity, {f.name: f.start for f in entity.fields} | {entity.key: key} | roles)
    return {entity.key: key}


def _set(state: State, entity: Entity, tool: Tool, roles: JSON) -> JSON:
    """Set and update: the fields given."""
    key = roles.pop("key")
    row = _record(state, entity, key)
    if not roles:
        raise Refusal("nothing to change")
    _require(state, tool, entity, row)
    for field, value in roles.items():
        _can_hold(state, entity, field, value, key)
    for field, value in roles.items():
        state.update(entity, key, field, value)
    return {"ok": True}


def _transition(state: State, entity: Entity, tool: Tool, roles: JSON) -> JSON:
    row = _record(state, entity, roles["key"])
    _require(state, tool, entity, row)
    state.update(entity, roles["key"], tool.field, tool.target)
    return {"ok": True}


def _change(sign: int) -> Callable[[State, Entity, Tool, JSON], JSON]:
    def run(state: State, entity: Entity, tool: Tool, roles: JSON) -> JSON:
        amount = _positive(roles["amount"])
        row = _record(state, entity, roles["key"])
        _require(state, tool, entity, row, amount)
        state.update(entity, roles["key"], tool.field, row[tool.field] + sign * amount)
        return {"ok": True}

    return run


def _transfer(state: State, entity: Entity, tool: Tool, roles: JSON) -> JSON:
    amount = _positive(roles["amount"])
    source, target = _record(state, entity, roles["source"]), _record(state, entity, roles["target"])
    if source == target:
        raise Refusal("source and target are the same")
    _require(state, tool, entity, source, amount)
    state.update(entity, roles["source"], tool.field, source[tool.field] - amount)
    state.update(entity, roles["target"], tool.field, target[tool.field] + amount)
    return {"ok": True}


def _remove(state: State, entity: Entity, tool: Tool, roles: JSON) -> JSON:
    row = _record(state, entity, roles["key"])
    _require(state, tool, entity, row)
    holder = state.holder(entity, roles["key"])
    if holder is not None:
        raise Refusal(f"{holder.label} refers to it")
    state.remove(entity, roles["key"])
    return {"ok": True}


RUN: Mapping[str, Callable[[State, Entity, Tool, JSON], JSON]] = {
    "get": _get,
    "find": _find,
    "search": _search,
    "aggregate": _aggregate,
    "create": _create,
    "set": _set,
    "update": _set,
    "transition": _transition,
    "add": _change(+1),
    "take": _change(-1),
    "transfer": _transfer,
    "remove": _remove,
}
