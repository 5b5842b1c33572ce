"""What a spec must keep to before it can run; ``check`` says where one does not, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a spec is checked where it is read, so the spec imports this file
    from openk2.worlds.spec import App, Condition, Entity, Field, Tool

IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
MOST_FIELDS = 200
RESERVED = frozenset({"key", "source", "target", "amount"})  # roles of parameters, so no names of fields
FIELD_TYPES = ("code", "name", "word", "email", "date", "time", "amount", "enum", "ref")
RANGED = ("amount", "date", "time")  # what sorts as people would sort it
COMPARISONS = (">=", "<=")

# What each operation needs: its parameters' roles ("field" stands for the tool's own field).
ROLES: Mapping[str, tuple[str, ...]] = {
    "get": ("key",),
    "find": ("field",),
    "set": ("key", "field"),
    "transition": ("key",),
    "add": ("key", "amount"),
    "take": ("key", "amount"),
    "transfer": ("source", "target", "amount"),
    "remove": ("key",),
}
FREE = ("create", "update", "search", "aggregate")  # operations that choose their roles among the fields
READING = ("get", "find", "search", "aggregate")


def split_role(role: str) -> tuple[str, str]:
    """A filter's field and comparison: ``total>=`` is ("total", ">="), ``status`` is ("status", "=")."""
    return (role[:-2], role[-2:]) if role.endswith(COMPARISONS) else (role, "=")


def check(app: App) -> None:
    """Raise ValueError, saying what is wrong and where, for a spec that could not run."""
    _distinct(f"app {app.name}", [entity.name for entity in app.entities])
    _distinct(f"app {app.name}", [tool.name for tool in app.tools])
    for entity in app.entities:
        _check_entity(app, entity)
    if app.strict:
        _check_refs(app)
    for tool in app.tools:
        _check_tool(app, tool)


def _check_entity(app: App, entity: Entity) -> None:
    where = f"{app.name}.{entity.name}"
    _distinct(where, [field.name for field in entity.fields])
    if len(entity.fields) > MOST_FIELDS:
        raise ValueError(f"{where}: {len(entity.fields)} fields, at most {MOST_FIELDS} can be")
    if not entity.fields or entity.fields[0].type != "code":
        raise ValueError(f"{where}: the first field is the key and has type code")
    for field in entity.fields:
        if field.name in RESERVED:
            raise ValueError(f"{where}.{field.name}: a field cannot be called {', '.join(sorted(RESERVED))}")
        if field.type not in FIELD_TYPES:
            raise ValueError(f"{where}.{field.name}: type {field.type!r} is none of {', '.join(FIELD_TYPES)}")
        if (field.type == "enum") != bool(field.values):
            raise ValueError(f"{where}.{field.name}: an enum, and only an enum, lists its values")
        if len(set(field.values)) != len(field.values):
            raise ValueError(f"{where}.{field.name}: a value is listed twice")
        if (field.type == "ref") != bool(field.ref):
            raise ValueError(f"{where}.{field.name}: a ref, and only a ref, names its entity")
        if field.optional and not (field.ref and app.strict):
            raise ValueError(f"{where}.{field.name}: only a ref of a strict app is optional")
        _check_default(f"{where}.{field.name}", field)
    if app.strict and any(field.unique and field.ref for field in entity.fields):
        raise ValueError(f"{where}: a ref cannot be unique")


def _check_default(where: str, field: Field) -> None:
    if field.default == "":
        return
    if field.unique or field.type not in ("amount", "enum", "word", "name"):
        raise ValueError(f"{where}: only an amount, enum, word or name that is not unique has a default")
    if type(field.default) is not (int if field.is_number else str):
        raise ValueError(f"{where}: the default {field.default!r} is no {'integer' if field.is_number else 'text'}")
    if field.values and field.default not in field.values:
        raise ValueError(f"{where}: the default {field.default!r} is no value")


def _check_refs(app: App) -> None:
    """Refs lead to entities, and some record can be the first."""
    needs: dict[str, set[str]] = {}
    for entity in app.entities:
        for field in entity.fields:
            if field.ref and all(other.name != field.ref for other in app.entities):
                raise ValueError(f"{app.name}.{entity.name}.{field.name}: no entity {field.ref}")
        needs[entity.name] = {field.ref for field in entity.fields if field.ref and not field.optional}
    while free := [name for name, wanted in needs.items() if not wanted]:
        for name in free:
            del needs[name]
        needs = {name: wanted.difference(free) for name, wanted in needs.items()}
    if needs:
        raise ValueError(f"app {app.name}: {', '.join(needs)} need each other, so none can be the first")


def _check_tool(app: App, tool: Tool) -> None:
    where = f"{app.name}.{tool.name}"
    _distinct(where, [param.name for param in tool.params])
    if tool.op not in ROLES and tool.op not in FREE:
        raise ValueError(f"{where}: operation {tool.op!r} is none of {', '.join((*ROLES, *FREE))}")
    try:
        entity = app.entity(tool.entity)
        for name in filter(None, (tool.field, *tool.returns, tool.order.removeprefix("-"))):
            entity.field(name)
        for condition in tool.requires:
            _check_condition(where, app, entity, tool, condition)
    except KeyError as error:
        raise ValueError(f"{where}: {error.args[0]}") from error
    if tool.op in ("search", "aggregate"):
        _check_filters(where, entity, tool)
    elif tool.op in ("create", "update"):
        _check_filled(where, app, entity, tool)
    else:
        _check_fixed(where, entity, tool)


def _check_condition(where: str, app: App, entity: Entity, tool: Tool, condition: Condition) -> None:
    if condition.via:
        link = entity.field(condition.via)
        if not link.ref or not app.strict:
            raise ValueError(f"{where}: a condition goes via a ref of a strict app, {link.name} is none")
        if tool.op == "create" and link.name not in {p.role for p in tool.params if not p.optional}:
            raise ValueError(f"{where}: a condition via {link.name} needs it as a parameter")
        entity = app.entity(link.ref)
    field = entity.field(condition.field)
    if tool.op in READING or (tool.op == "create" and not condition.via):
        raise ValueError(f"{where}: {tool.op} has no record to test {field.name} of")
    match condition.test:
        case "in":
            if not condition.values or not set(condition.values) <= set(field.values or condition.values):
                raise ValueError(f"{where}: the condition on {field.name} lists some of its values")
        case "at_least":
            if not field.is_number or condition.via or tool.op not in ("add", "take", "transfer"):
                raise ValueError(f"{where}: at_least is for the record's number where an amount moves")
        case "no_less" | "no_more":
            if not field.is_number:
                raise ValueError(f"{where}: {condition.test} needs a number, {field.name} is {field.type}")
        case "filled":
            if field.is_number or field.values:
                raise ValueError(f"{where}: {field.name} is always filled")
        case _:
            raise ValueError(f"{where}: unknown test {condition.test!r}")


def _check_fixed(where: str, entity: Entity, tool: Tool) -> None:
    """Operations whose roles are fixed."""
    roles = sorted(param.role for param in tool.params)
    wanted = sorted(tool.field if role == "field" else role for role in ROLES[tool.op])
    if roles != wanted:
        raise ValueError(f"{where}: {tool.op} takes the roles {wanted}, got {roles}")
    if any(param.optional for param in tool.params):
        raise ValueError(f"{where}: {tool.op} needs all its parameters")
    if tool.op == "get" and not tool.returns:
        raise ValueError(f"{where}: get returns at least one field")
    if tool.op in ("get", "remove"):
        return
    if not tool.field:
        raise ValueError(f"{where}: {tool.op} needs a field")
    field = entity.field(tool.field)
    if tool.op in ("set", "transition") and field.name == entity.key:
        raise ValueError(f"{where}: the key of {entity.name} stays as it is")
    if tool.op in ("add", "take", "transfer") and not field.is_number:
        raise ValueError(f"{where}: {tool.op} needs a number, {field.name} is {field.type}")
    if tool.op == "find" and not field.unique:
        raise ValueError(f"{where}: find needs a unique field, {field.name} is none")
    if tool.op == "transition" and tool.target not in field.values:
        raise ValueError(f"{where}: {tool.target!r} is no value of {field.name}")


def _check_filled(where: str, app: App, entity: Entity, tool: Tool) -> None:
    """Create and update: any fields but the key."""
    roles = [param.role for param in tool.params]
    fields = [role for role in roles if tool.op == "create" or role != "key"]
    names = {field.name for field in entity.fields[1:]}
    if not fields or not names.issuperset(fields) or len(set(fields)) != len(fields):
        raise ValueError(f"{where}: {tool.op} takes fields of {entity.name} other than its key, got {sorted(roles)}")
    given = {param.role for param in tool.params if not param.optional}
    if tool.op == "update" and ("key" not in given or len(fields) < 2):
        raise ValueError(f"{where}: update takes the key and at least two fields, got {sorted(roles)}")
    for field in entity.fields[1:]:
        needed = field.unique or (field.ref and not field.optional)
        if tool.op == "create" and app.strict and needed and field.name not in given:
            raise ValueError(f"{where}: no {entity.name} can be without {field.name}, which is no required parameter")


def _check_filters(where: str, entity: Entity, tool: Tool) -> None:
    """Search and aggregate: any fields but the key, numbers, dates and times also by range."""
    roles = [param.role for param in tool.params]
    filters = [role for role in roles if role != "limit" or tool.op != "search"]
    if not filters or len(set(roles)) != len(roles):
        raise ValueError(f"{where}: {tool.op} takes distinct filters, got {sorted(roles)}")
    for name, comparison in map(split_role, roles):
        if name == "limit" and tool.op == "search":
            continue
        field = next((field for field in entity.fields[1:] if field.name == name), None)
        if field is None:
            raise ValueError(
                f"{where}: {tool.op} takes filters on fields of {entity.name} other than its key, got {name}"
            )
        if comparison != "=" and field.type not in RANGED:
            raise ValueError(f"{where}: a range needs one of {', '.join(RANGED)}, {name} is {field.type}")
    if tool.op == "search" and tool.limit < 1:
        raise ValueError(f"{where}: search shows at least one record, its limit is {tool.limit}")
    if tool.op == "aggregate":
        if tool.measure not in ("count", "sum", "mean", "min", "max"):
            raise ValueError(f"{where}: measure {tool.measure!r} is none of count, sum, mean, min, max")
        if (tool.measure == "count") == bool(tool.field) or (tool.field and not entity.field(tool.field).is_number):
            raise ValueError(f"{where}: {tool.measure} needs {'no field' if tool.measure == 'count' else 'a number'}")


def _distinct(where: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if not IDENTIFIER.fullmatch(name):
            raise ValueError(f"{where}: {name!r} is no identifier")
        # SQLite compares column and table names without case.
        if name.lower() in seen:
            raise ValueError(f"{where}: {name!r} appears twice")
        seen.add(name.lower())
