"""Short forms to write an app's spec by hand: names, parameters and descriptions follow from the nouns."""

from __future__ import annotations

from openk2.worlds.spec import App, Condition, Entity, Field, Param, Tool, check


def app(name: str, entities: tuple[Entity, ...], *tools: Tool) -> App:
    """A checked app. Raises ValueError for a spec that could not run."""
    made = App(name, entities, tools)
    check(made)
    return made


def entity(name: str, *fields: Field) -> Entity:
    """A table with the key ``name``: what points to a record and the record itself say it alike."""
    return Entity(name, (Field(name, "code"), *fields))


def enum(name: str, *values: str) -> Field:
    """A column of listed values; the first is the default."""
    return Field(name, "enum", values)


def ref(name: str) -> Field:
    """A column that holds the key of the entity of the same name."""
    return Field(name, "ref", ref=name)


def unique(field: Field) -> Field:
    """The same column, where no two records may agree."""
    return Field(field.name, field.type, field.values, field.ref, unique=True)


def among(field: str, *values: str) -> Condition:
    """The record's field is one of ``values``."""
    return Condition(field, "in", values)


def covers(field: str) -> Condition:
    """The record's number is at least the amount moved."""
    return Condition(field, "at_least")


def _key(of: Entity) -> Param:
    return Param(of.key, "key")


def get(of: Entity) -> Tool:
    """Read a record: all its fields but the key."""
    returns = tuple(field.name for field in of.fields[1:])
    return Tool(f"get_{of.name}", f"read {of.label}", "get", of.name, (_key(of),), returns=returns)


def find(of: Entity, field: str) -> Tool:
    """The key of the record with this value."""
    name, text = f"find_{of.name}", f"find {of.label} by {of.field(field).label}"
    return Tool(name, text, "find", of.name, (Param(field, field),), field=field)


def create(of: Entity, *fields: str, verb: str = "create") -> Tool:
    """A new record with these fields, the others at their defaults."""
    params = tuple(Param(field, field) for field in fields)
    return Tool(f"{verb}_{of.name}", f"{verb} {of.label}", "create", of.name, params, verb=verb)


def put(of: Entity, field: str, *requires: Condition) -> Tool:
    """Set one field."""
    params, text = (_key(of), Param(field, field)), f"set {of.field(field).label}"
    return Tool(f"set_{field}", text, "set", of.name, params, field=field, requires=requires)


def move(verb: str, of: Entity, field: str, target: str, *sources: str) -> Tool:
    """Move an enum field to ``target``; allowed from ``sources`` only."""
    name, text = f"{verb.replace(' ', '_')}_{of.name}", f"{verb} {of.label}"
    allowed = (among(field, *sources),)
    return Tool(name, text, "transition", of.name, (_key(of),), field=field, target=target, verb=verb, requires=allowed)


def add(verb: str, of: Entity, field: str, *requires: Condition) -> Tool:
    """Add an amount to a number."""
    text = f"{verb} to {of.field(field).label}"
    params = (_key(of), Param("amount", "amount"))
    return Tool(f"{verb}_{field}", text, "add", of.name, params, field=field, verb=verb, requires=requires)


def take(verb: str, of: Entity, field: str, *requires: Condition) -> Tool:
    """Take an amount from a number, which must cover it."""
    text = f"{verb} from {of.field(field).label}"
    params, needs = (_key(of), Param("amount", "amount")), (*requires, covers(field))
    return Tool(f"{verb}_{field}", text, "take", of.name, params, field=field, verb=verb, requires=needs)


def transfer(verb: str, of: Entity, field: str, *requires: Condition) -> Tool:
    """Move an amount from one record to another, where the first must cover it."""
    text, needs = f"{verb} {of.field(field).label}", (*requires, covers(field))
    params = (Param("source", "source"), Param("target", "target"), Param("amount", "amount"))
    return Tool(f"{verb}_{field}", text, "transfer", of.name, params, field=field, verb=verb, requires=needs)
