"""Tools are data: an app is typed entities and operations over them (K2 §3.1, tool spec synthesis).

Nothing here runs. ``tools`` compiles a spec to what a model sees and to what executes.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from openk2.schema import JSON

FieldType = Literal["code", "name", "word", "email", "date", "time", "amount", "enum", "ref"]
Op = Literal[
    "get", "find", "search", "aggregate", "create", "set", "update", "transition", "add", "take", "transfer", "remove"
]  # fmt: skip
Test = Literal["in", "filled", "at_least", "no_less", "no_more"]
Measure = Literal["", "count", "sum", "mean", "min", "max"]

IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
RESERVED = frozenset({"key", "source", "target", "amount"})  # roles of parameters, so no names of fields
FIELD_TYPES = ("code", "name", "word", "email", "date", "time", "amount", "enum", "ref")
RANGED = ("amount", "date", "time")  # what sorts as people would sort it
COMPARISONS = (">=", "<=")


@dataclass(frozen=True, slots=True)
class Field:
    """A column. ``values`` lists an enum's; ``ref`` names the entity a ref points to.

    ``default`` is what a new record has where nothing is said; empty stands for 0, an enum's first value, or no text.
    ``optional``, for refs of a strict app: may be empty.
    """

    name: str
    type: FieldType
    values: tuple[str, ...] = ()
    ref: str = ""
    unique: bool = False
    default: str | int = ""
    optional: bool = False

    @property
    def is_number(self) -> bool:
        """True for integers; everything else is text."""
        return self.type == "amount"

    @property
    def label(self) -> str:
        """The name as people say it."""
        return self.name.replace("_", " ")

    @property
    def start(self) -> str | int:
        """What a new record has where nothing is said."""
        return self.default or (0 if self.is_number else self.values[0] if self.values else "")


@dataclass(frozen=True, slots=True)
class Entity:
    """A table. The first field is its key."""

    name: str
    fields: tuple[Field, ...]

    @property
    def key(self) -> str:
        """The key's column."""
        return self.fields[0].name

    @property
    def label(self) -> str:
        """The name as people say it."""
        return self.name.replace("_", " ")

    def field(self, name: str) -> Field:
        """The column ``name``. Raises KeyError."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(f"{self.name} has no field {name}")


@dataclass(frozen=True, slots=True)
class Condition:
    """A precondition on a field of the record or, with ``via``, of the record that this ref of it points to.

    in: among ``values``; filled: not empty; at_least: the number covers the amount moved; no_less and no_more: the
    number keeps to ``bound``. ``policy`` says it in a sentence, where ``policies.sentence`` would not do.
    """

    field: str
    test: Test
    values: tuple[str, ...] = ()
    via: str = ""
    bound: int = 0
    policy: str = ""


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter. ``role`` is ``key``, ``source``, ``target``, ``amount``, or the field it fills or filters by.

    A filter may be a range, ``total>=`` or ``total<=``, and ``limit`` is how many records a search shows at most.
    """

    name: str
    role: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """An operation over one entity.

    get(key) shows ``returns``; find(field) gives the key; search(filters…) lists keys and ``returns`` of at most
    ``limit`` records by ``order`` (a field, after ``-`` from the highest); aggregate(filters…) takes the ``measure`` of
    ``field``; create(fields…); set(key, field); update(key, fields…); transition(key) moves the enum ``field`` to
    ``target``; add and take(key, amount) change the number ``field``; transfer(source, target, amount) moves it
    between two records; remove(key). ``verb`` is what people call it.
    """

    name: str
    description: str
    op: Op
    entity: str
    params: tuple[Param, ...]
    field: str = ""
    target: str = ""
    verb: str = ""
    returns: tuple[str, ...] = ()
    requires: tuple[Condition, ...] = ()
    measure: Measure = ""
    order: str = ""
    limit: int = 0

    def arguments(self, /, **roles: Any) -> JSON:
        """The arguments of a call, in the declared order, from values by role; optional ones may be missing."""
        return {p.name: roles[p.role] for p in self.params if not p.optional or p.role in roles}


@dataclass(frozen=True, slots=True)
class App:
    """Entities and the tools over them.

    In a ``strict`` app a ref holds the key of a record, or nothing where it is optional; dates, times and emails are
    well-formed. Else both are any text.
    """

    name: str
    entities: tuple[Entity, ...]
    tools: tuple[Tool, ...]
    strict: bool = False

    def entity(self, name: str) -> Entity:
        """The entity ``name``. Raises KeyError."""
        for entity in self.entities:
            if entity.name == name:
                return entity
        raise KeyError(f"{self.name} has no entity {name}")

    def find_tool(self, name: str) -> Tool | None:
        """The tool ``name``, or None."""
        return next((tool for tool in self.tools if tool.name == name), None)

    def to_json(self) -> JSON:
        """Plain JSON, defaults left out."""
        return {
            "name": self.name,
            "entities": [{"name": e.name, "fields": [_plain(field) for field in e.fields]} for e in self.entities],
            "tools": [
                _plain(tool)
                | {"params": [[p.name, p.role, *([True] if p.optional else [])] for p in tool.params]}
                | ({"requires": [_plain(condition) for condition in tool.requires]} if tool.requires else {})
                for tool in self.tools
            ],
        } | ({"strict": True} if self.strict else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> App:
        """Read what ``to_json`` wrote. Raises ValueError for a spec that ``check`` refuses."""
        try:
            entities = tuple(Entity(e["name"], tuple(_field(f) for f in e["fields"])) for e in data["entities"])
            tools = tuple(_tool(tool) for tool in data["tools"])
            app = cls(data["name"], entities, tools, data.get("strict", False))
        except (KeyError, TypeError) as error:
            raise ValueError(f"app {data.get('name')!r}: {error}") from error
        check(app)
        return app


def _plain(value: Field | Tool | Condition) -> JSON:
    """A flat dataclass as JSON, without what is as by default."""
    out = {item.name: (getattr(value, item.name), item.default) for item in dataclasses.fields(value)}
    return {
        name: list(item) if isinstance(item, tuple) else item for name, (item, usual) in out.items() if item != usual
    }


def _field(data: Mapping[str, Any]) -> Field:
    return Field(**{**data, "values": tuple(data.get("values", ()))})


def _tool(data: Mapping[str, Any]) -> Tool:
    rest = dict(data)
    rest["params"] = tuple(Param(*param) for param in data["params"])
    rest["returns"] = tuple(data.get("returns", ()))
    rest["requires"] = tuple(Condition(**{**c, "values": tuple(c.get("values", ()))}) for c in data.get("requires", ()))
    return Tool(**rest)


def split_role(role: str) -> tuple[str, str]:
    """A filter's field and comparison: ``total>=`` is ("total", ">="), ``status`` is ("status", "=")."""
    return (role[:-2], role[-2:]) if role.endswith(COMPARISONS) else (role, "=")


def restrict(app: App, tools: Iterable[Tool]) -> App:
    """The app with ``tools`` alone and the entities they work on; in a strict app also those that refs lead to."""
    kept = tuple(tools)
    names = {tool.entity for tool in kept}
    while app.strict and (missing := {f.ref for name in names for f in app.entity(name).fields if f.ref} - names):
        names |= missing
    return dataclasses.replace(
        app, entities=tuple(entity for entity in app.entities if entity.name in names), tools=kept
    )


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
    if not roles or len(set(roles)) != len(roles):
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
