"""Tools are data: an app is typed entities and operations over them (K2 §3.1, tool spec synthesis).

Nothing here runs. ``tools`` compiles a spec to what a model sees and to what executes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from openk2.schema import JSON
from openk2.worlds.checks import RANGED as RANGED
from openk2.worlds.checks import RESERVED as RESERVED
from openk2.worlds.checks import check as check
from openk2.worlds.checks import split_role as split_role

FieldType = Literal["code", "name", "word", "email", "date", "time", "amount", "enum", "ref"]
Op = Literal[
    "get", "find", "search", "aggregate", "create", "set", "update", "transition", "add", "take", "transfer", "remove"
]  # fmt: skip
Test = Literal["in", "filled", "at_least", "no_less", "no_more"]
Measure = Literal["", "count", "sum", "mean", "min", "max"]


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
            check(app)
        except (KeyError, TypeError, AttributeError) as error:  # a value of another type than it should have
            raise ValueError(f"app {data.get('name')!r}: {error}") from error
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


def restrict(app: App, tools: Iterable[Tool]) -> App:
    """The app with ``tools`` alone and the entities they work on; in a strict app also those that refs lead to."""
    kept = tuple(tools)
    names = {tool.entity for tool in kept}
    while app.strict and (missing := {f.ref for name in names for f in app.entity(name).fields if f.ref} - names):
        names |= missing
    return dataclasses.replace(
        app, entities=tuple(entity for entity in app.entities if entity.name in names), tools=kept
    )
