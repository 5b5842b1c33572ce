"""What a spec compiles to: the JSON schema a model sees, and an executor over state.

A wrong call never raises. It gets a compact ``{"error": "…"}``, as a model should see it. No answer repeats what the
caller sent: a fact counts as known once a result shows it, so an echo would let a guess pass for knowledge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from openk2.schema import JSON, ToolSpec
from openk2.worlds.spec import App, Entity, Tool
from openk2.worlds.state import State

LARGEST = 10**12  # SQLite holds 64-bit integers; nothing here comes near


class Refusal(Exception):  # noqa: N818 - not an error of the program: what the tool answers
    """A call that the tool turns down; the text is its answer."""


def compile_tools(app: App) -> list[ToolSpec]:
    """The tools as a model sees them, in the app's order."""
    return [ToolSpec(tool.name, tool.description, parameters(app, tool)) for tool in app.tools]


def parameters(app: App, tool: Tool) -> JSON:
    """The JSON schema of a tool's arguments; all are required."""
    entity = app.entity(tool.entity)
    properties = {param.name: _schema(entity, param.role) for param in tool.params}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _schema(entity: Entity, role: str) -> JSON:
    if role == "amount":
        return {"type": "integer"}
    if role in ("key", "source", "target"):
        return {"type": "string"}
    field = entity.field(role)
    if field.values:
        return {"type": "string", "enum": list(field.values)}
    return {"type": "integer" if field.is_number else "string"}


def execute(app: App, state: State, name: str, arguments: Any) -> JSON:
    """Run one call. The result is flat JSON; ``{"error": reason}`` leaves the state as it was."""
    tool = app.find_tool(name)
    if tool is None:
        return {"error": "no such tool"}
    entity = app.entity(tool.entity)
    try:
        by_name = validate(parameters(app, tool), arguments)
        roles = {param.role: by_name[param.name] for param in tool.params}
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
        if name not in arguments:
            raise Refusal(f"missing {name}")
        value = arguments[name]
        if wanted["type"] == "integer":
            if not isinstance(value, int) or isinstance(value, bool) or abs(value) > LARGEST:
                raise Refusal(f"{name} must be an integer")
        elif not isinstance(value, str) or not _is_text(value):
            raise Refusal(f"{name} must be a string")
        if "enum" in wanted and value not in wanted["enum"]:
            raise Refusal(f"{name} must be one of those listed")
    return dict(arguments)


def _is_text(value: str) -> bool:
    """False for what has no UTF-8 form (lone surrogates), which SQLite refuses."""
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)


def _record(state: State, entity: Entity, key: str) -> JSON:
    row = state.get(entity, key)
    if row is None:
        raise Refusal(f"{entity.label} not found")
    return row


def _require(tool: Tool, entity: Entity, row: JSON, amount: int = 0) -> None:
    for condition in tool.requires:
        value = row[condition.field]
        met = value >= amount if condition.test == "at_least" else value in condition.values
        if not met:
            raise Refusal(f"{entity.field(condition.field).label} is {value}")


def _positive(amount: int) -> int:
    if amount <= 0:
        raise Refusal("amount must be positive")
    return amount


def _is_free(state: State, entity: Entity, field: str, value: str | int, key: str | None) -> None:
    if entity.field(field).unique:
        other = state.find(entity, field, value)
        if other is not None and other[entity.key] != key:
            raise Refusal(f"{entity.field(field).label} is taken")


def _get(state: State, entity: Entity, tool: Tool, roles: JSON) -> JSON:
    row = _record(state, entity, roles["key"])
    return {name: row[name] for name in tool.returns}


def _find(state: State, entity: Entity, tool: Tool, roles: JSON) -> JSON:
    row = state.find(entity, tool.field, roles[tool.field])
    if row is None:
        raise Refusal(f"{entity.label} not found")
    return {entity.key: row[entity.key]}


def _create(state: State, entity: Entity, tool: Tool, roles: JSON) -> JSON:
    for field, value in roles.items():
        _is_free(state, entity, field, value, None)
    key = state.next_key(entity)
    if key is None:
        raise Refusal("limit reached")
    blank = {f.name: 0 if f.is_number else f.values[0] if f.values else "" for f in entity.fields}
    state.insert(entity, blank | {entity.key: key} | roles)
    return {entity.key: key}


def _set(state: State, entity: Entity, tool: Tool, roles: JSON) -> JSON:
    row = _record(state, entity, roles["key"])
    _require(tool, entity, row)
    _is_free(state, entity, tool.field, roles[tool.field], roles["key"])
    state.update(entity, roles["key"], tool.field, roles[tool.field])
    return {"ok": True}


def _transition(state: State, entity: Entity, tool: Tool, roles: JSON) -> JSON:
    row = _record(state, entity, roles["key"])
    _require(tool, entity, row)
    state.update(entity, roles["key"], tool.field, tool.target)
    return {"ok": True}


def _change(sign: int) -> Callable[[State, Entity, Tool, JSON], JSON]:
    def run(state: State, entity: Entity, tool: Tool, roles: JSON) -> JSON:
        amount = _positive(roles["amount"])
        row = _record(state, entity, roles["key"])
        _require(tool, entity, row, amount)
        state.update(entity, roles["key"], tool.field, row[tool.field] + sign * amount)
        return {"ok": True}

    return run


def _transfer(state: State, entity: Entity, tool: Tool, roles: JSON) -> JSON:
    amount = _positive(roles["amount"])
    source, target = _record(state, entity, roles["source"]), _record(state, entity, roles["target"])
    if source == target:
        raise Refusal("source and target are the same")
    _require(tool, entity, source, amount)
    state.update(entity, roles["source"], tool.field, source[tool.field] - amount)
    state.update(entity, roles["target"], tool.field, target[tool.field] + amount)
    return {"ok": True}


RUN: Mapping[str, Callable[[State, Entity, Tool, JSON], JSON]] = {
    "get": _get,
    "find": _find,
    "create": _create,
    "set": _set,
    "transition": _transition,
    "add": _change(+1),
    "take": _change(-1),
    "transfer": _transfer,
}
