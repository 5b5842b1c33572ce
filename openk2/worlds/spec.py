"""Tools are data: an app is typed entities and operations over them (K2 §3.1, tool spec synthesis).

Nothing here runs. ``tools`` compiles a spec to what a model sees and to what executes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from openk2.schema import JSON

FieldType = Literal["code", "name", "word", "email", "date", "time", "amount", "enum", "ref"]
Op = Literal["get", "find", "create", "set", "transition", "add", "take", "transfer"]
Test = Literal["in", "at_least"]

IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
RESERVED = frozenset({"key", "source", "target", "amount"})  # roles of parameters, so no names of fields
FIELD_TYPES = ("code", "name", "word", "email", "date", "time", "amount", "enum", "ref")


@dataclass(frozen=True, slots=True)
class Field:
    """A column. ``values`` lists an enum's, the first being the default; ``ref`` names the entity a ref points to."""

    name: str
    type: FieldType
    values: tuple[str, ...] = ()
    ref: str = ""
    unique: bool = False

    @property
    def is_number(self) -> bool:
        """True for integers; everything else is text."""
        return self.type == "amount"

    @property
    def label(self) -> str:
        """The name as people say it."""
        return self.name.replace("_", " ")


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
    """A precondition on the record: its field is among ``values``, or is at least the amount moved."""

    field: str
    test: Test
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter. ``role`` is ``key``, ``source``, ``target``, ``amount``, or the field it fills."""

    name: str
    role: str


@dataclass(frozen=True, slots=True)
class Tool:
    """An operation over one entity.

    get(key) shows ``returns``; find(field) gives the key; create(fields…); set(key, field);
    transition(key) moves the enum ``field`` to ``target``; add and take(key, amount) change the number ``field``;
    transfer(source, target, amount) moves it between two records. ``verb`` is what people call it.
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

    def arguments(self, /, **roles: Any) -> JSON:
        """The arguments of a call, in the declared order, from values by role."""
        return {param.name: roles[param.role] for param in self.params}


@dataclass(frozen=True, slots=True)
class App:
    """Entities and the tools over them."""

    name: str
    entities: tuple[Entity, ...]
    tools: tuple[Tool, ...]

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
        """Plain JSON, empty values left out."""
        return {
            "name": self.name,
            "entities": [{"name": e.name, "fields": [_plain(field) for field in e.fields]} for e in self.entities],
            "tools": [
                _plain(tool)
                | {"params": [[param.name, param.role] for param in tool.params]}
                | ({"requires": [_plain(condition) for condition in tool.requires]} if tool.requires else {})
                for tool in self.tools
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> App:
        """Read what ``to_json`` wrote. Raises ValueError for a spec that ``check`` refuses."""
        try:
            entities = tuple(Entity(e["name"], tuple(_field(f) for f in e["fields"])) for e in data["entities"])
            app = cls(data["name"], entities, tuple(_tool(tool) for tool in data["tools"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"app {data.get('name')!r}: {error}") from error
        check(app)
        return app


def _plain(value: Field | Tool | Condition) -> JSON:
    """A flat dataclass as JSON, without empty values."""
    out = {name: getattr(value, name) for name in value.__slots__}
    return {name: list(item) if isinstance(item, tuple) else item for name, item in out.items() if item}


def _field(data: Mapping[str, Any]) -> Field:
    return Field(**{**data, "values": tuple(data.get("values", ()))})


def _tool(data: Mapping[str, Any]) -> Tool:
    rest = dict(data)
    rest["params"] = tuple(Param(name, role) for name, role in data["params"])
    rest["returns"] = tuple(data.get("returns", ()))
    rest["requires"] = tuple(
        Condition(c["field"], c["test"], tuple(c.get("values", ()))) for c in data.get("requires", ())
    )
    return Tool(**rest)


# What each operation needs: its parameters' roles ("field" stands for the tool's own field).
ROLES: Mapping[str, tuple[str, ...]] = {
    "get": ("key",),
    "find": ("field",),
    "set": ("key", "field"),
    "transition": ("key",),
    "add": ("key", "amount"),
    "take": ("key", "amount"),
    "transfer": ("source", "target", "amount"),
}


def check(app: App) -> None:
    """Raise ValueError, saying what is wrong, for a spec that could not run."""
    _distinct(f"app {app.name}", [entity.name for entity in app.entities])
    _distinct(f"app {app.name}", [tool.name for tool in app.tools])
    for entity in app.entities:
        _check_entity(app, entity)
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
        if (field.type == "ref") != bool(field.ref):
            raise ValueError(f"{where}.{field.name}: a ref, and only a ref, names its entity")


def _check_tool(app: App, tool: Tool) -> None:
    where = f"{app.name}.{tool.name}"
    _distinct(where, [param.name for param in tool.params])
    try:
        entity = app.entity(tool.entity)
        field = entity.field(tool.field) if tool.field else None
        for name in tool.returns:
            entity.field(name)
        for condition in tool.requires:
            entity.field(condition.field)
    except KeyError as error:
        raise ValueError(f"{where}: {error.args[0]}") from error
    roles = sorted(param.role for param in tool.params)
    if tool.op == "create":
        names = {f.name for f in entity.fields[1:]}
        if not roles or not names.issuperset(roles):
            raise ValueError(f"{where}: create takes fields of {entity.name} other than its key, got {roles}")
        return
    if tool.op not in ROLES:
        raise ValueError(f"{where}: operation {tool.op!r} is none of create, {', '.join(ROLES)}")
    wanted = sorted(tool.field if role == "field" else role for role in ROLES[tool.op])
    if roles != wanted:
        raise ValueError(f"{where}: {tool.op} takes the roles {wanted}, got {roles}")
    if tool.op == "get":
        if not tool.returns:
            raise ValueError(f"{where}: get returns at least one field")
        return
    if field is None:
        raise ValueError(f"{where}: {tool.op} needs a field")
    if tool.op in ("add", "take", "transfer") and not field.is_number:
        raise ValueError(f"{where}: {tool.op} needs a number, {field.name} is {field.type}")
    if tool.op == "find" and not field.unique:
        raise ValueError(f"{where}: find needs a unique field, {field.name} is none")
    if tool.op == "transition" and tool.target not in field.values:
        raise ValueError(f"{where}: {tool.target!r} is no value of {field.name}")


def _distinct(where: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if not IDENTIFIER.fullmatch(name):
            raise ValueError(f"{where}: {name!r} is no identifier")
        # SQLite compares column and table names without case.
        if name.lower() in seen:
            raise ValueError(f"{where}: {name!r} appears twice")
        seen.add(name.lower())


def restrict(app: App, tools: Iterable[Tool]) -> App:
    """The app with ``tools`` alone and the entities they work on."""
    kept = tuple(tools)
    names = {tool.entity for tool in kept}
    return App(app.name, tuple(entity for entity in app.entities if entity.name in names), kept)
