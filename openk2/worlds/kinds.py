"""The kinds of task, generic over apps: each picks tools, invents records, and writes the goal backwards from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from openk2.schema import JSON
from openk2.worlds.draft import Draft, Goal
from openk2.worlds.spec import App, Field, Tool
from openk2.worlds.users import say_act

Tools = tuple[Tool, ...]
ACTING = ("set", "transition", "add", "take")


@dataclass(frozen=True, slots=True)
class Kind:
    """``options`` lists the tools a task of this kind can be about; ``write`` makes the goal for one of them."""

    name: str
    options: Callable[[App], Iterator[Tools]]
    write: Callable[[Draft, Tools], Goal]


def _ops(*ops: str) -> Callable[[App], Iterator[Tools]]:
    """Options of a single tool with one of these operations."""
    return lambda app: ((tool,) for tool in app.tools if tool.op in ops)


def _pairs(first: str, *second: str) -> Callable[[App], Iterator[Tools]]:
    """Options of two tools over the same entity."""

    def options(app: App) -> Iterator[Tools]:
        for one in app.tools:
            for two in app.tools:
                if one.op == first and two.op in second and one.entity == two.entity:
                    yield one, two

    return options


def _other_values(row: JSON, tool: Tool, said: str) -> tuple[str | int, ...]:
    """What the same record shows beside the field asked for: saying it all is no answer."""
    return tuple(row[name] for name in tool.returns if name != said and row[name] != row[said])


def _other_states(column: Field, said: str) -> tuple[str, ...]:
    """An enum's other values: listing them all is no answer either."""
    return tuple(value for value in column.values if value != said)


def _asked(draft: Draft, tool: Tool) -> Field:
    """A field that ``tool`` shows and that a person would ask for."""
    entity = draft.entity(tool)
    return draft.rng.choice([entity.field(n) for n in tool.returns if entity.field(n).type != "ref"])


def _lookup(draft: Draft, tools: Tools) -> Goal:
    (get,) = tools
    entity, goal = draft.entity(get), Goal()
    row, field = draft.row(entity), _asked(draft, get)
    goal.call(get, key=row[entity.key])
    goal.says(row[field.name], grounded=True, without=_other_values(row, get, field.name))
    goal.slots = {"entity": entity.label, "key": row[entity.key], "field": field.label, "answer": row[field.name]}
    return goal


def _find(draft: Draft, tools: Tools) -> Goal:
    (find,) = tools
    entity, goal = draft.entity(find), Goal()
    row, by = draft.row(entity), entity.field(find.field)
    goal.call(find, **{by.name: row[by.name]})
    goal.says(row[entity.key], grounded=True)
    goal.slots = {"entity": entity.label, "by": by.label, "value": row[by.name], "answer": row[entity.key]}
    return goal


def _act(draft: Draft, goal: Goal, tool: Tool, row: JSON, what: str, amount: int) -> str:
    """Plan one writing call on ``row`` and return the clause that asks for it."""
    entity, key = draft.entity(tool), row[draft.entity(tool).key]
    slots: JSON = {"what": what}
    match tool.op:
        case "set":
            field = entity.field(tool.field)
            value = draft.value(field, row[field.name])
            goal.call(tool, key=key, **{field.name: value})
            goal.expect(entity, key, field.name, value)
            slots |= {"field": field.label, "value": value}
        case "transition":
            goal.call(tool, key=key)
            goal.expect(entity, key, tool.field, tool.target)
        case _:
            change = amount if tool.op == "add" else -amount
            goal.call(tool, key=key, amount=amount)
            goal.expect(entity, key, tool.field, row[tool.field] + change)
            slots |= {"field": entity.field(tool.field).label, "amount": amount}
    return say_act(tool, draft.rng, slots)


def _acted(draft: Draft, tools: Tools) -> Goal:
    """One writing call on a record named by its key: set, transition, adjust."""
    (tool,) = tools
    entity, goal, amount = draft.entity(tool), Goal(), draft.amount()
    row = draft.ready(tool, amount=amount)
    key = row[entity.key]
    goal.slots = {
        "act": _act(draft, goal, tool, row, f"{entity.label} {key}", amount),
        "entity": entity.label,
        "key": key,
    }
    goal.says(key)
    return goal


def _create(draft: Draft, tools: Tools) -> Goal:
    (tool,) = tools
    entity, goal = draft.entity(tool), Goal()
    key = draft.new_key(entity)
    values = {param.role: draft.value(entity.field(param.role)) for param in tool.params}
    goal.call(tool, **values)
    goal.expect_new(entity, key, values)
    goal.says(key, grounded=True)
    names = draft.rng.sample(list(values), len(values))
    pairs = ", ".join(f"{entity.field(name).label} {values[name]}" for name in names)
    act = say_act(tool, draft.rng, {"entity": entity.label, "pairs": pairs})
    goal.slots = {"act": act, "entity": entity.label, "key": key}
    return goal


def _transfer(draft: Draft, tools: Tools) -> Goal:
    (tool,) = tools
    entity, goal, amount = draft.entity(tool), Goal(), draft.amount()
    source, target = draft.ready(tool, amount=amount), draft.row(entity)
    ends = {"source": source[entity.key], "target": target[entity.key]}
    goal.call(tool, **ends, amount=amount)
    goal.expect(entity, ends["source"], tool.field, source[tool.field] - amount)
    goal.expect(entity, ends["target"], tool.field, target[tool.field] + amount)
    goal.says(ends["source"])
    slots: JSON = {"entity": entity.label, "field": entity.field(tool.field).label, "amount": amount, **ends}
    goal.slots = {"act": say_act(tool, draft.rng, slots), "entity": entity.label, "key": ends["source"]}
    return goal


def _refused(draft: Draft, tools: Tools) -> Goal:
    (tool,) = tools
    entity, goal, rng = draft.entity(tool), Goal(), draft.rng
    column = entity.field(tool.field)
    allowed = {value for c in tool.requires if c.field == column.name for value in c.values}
    state = rng.choice([value for value in column.values if value not in allowed])
    row = draft.row(entity, **{column.name: state})
    key = row[entity.key]
    goal.call(tool, key=key)
    goal.says(state, grounded=True, without=_other_states(column, state))
    act = say_act(tool, rng, {"what": f"{entity.label} {key}"})
    goal.slots = {
        "act": act,
        "entity": entity.label,
        "key": key,
        "field": column.label,
        "answer": state,
    }
    return goal


def _find_act(draft: Draft, tools: Tools) -> Goal:
    find, tool = tools
    entity, goal, amount = draft.entity(tool), Goal(), draft.amount()
    row = draft.ready(tool, amount=amount)
    key, by = row[entity.key], entity.field(find.field)
    goal.call(find, **{by.name: row[by.name]})
    goal.looked(find, **{by.name: row[by.name]})
    act = _act(draft, goal, tool, row, f"the {entity.label} with {by.label} {row[by.name]}", amount)
    goal.says(key, grounded=True)
    goal.slots = {"act": act, "entity": entity.label, "key": key}
    return goal


def _two_hop_options(app: App) -> Iterator[Tools]:
    for one in app.tools:
        for two in app.tools:
            if one.op == two.op == "get":
                refs = [name for name in one.returns if app.entity(one.entity).field(name).ref == two.entity]
                if refs:
                    yield one, two


def _two_hop(draft: Draft, tools: Tools) -> Goal:
    first, second = tools
    entity, other, goal = draft.entity(first), draft.entity(second), Goal()
    target, field = draft.row(other), _asked(draft, second)
    link = next(f for f in entity.fields if f.ref == other.name)
    row = draft.row(entity, **{link.name: target[other.key]})
    goal.call(first, key=row[entity.key])
    goal.call(second, key=target[other.key])
    goal.looked(first, key=row[entity.key])
    goal.says(target[field.name], grounded=True, without=_other_values(target, second, field.name))
    goal.slots = {
        "entity": entity.label, "key": row[entity.key], "other": link.label, "field": field.label, "answer": target[field.name],
    }  # fmt: skip
    return goal


def _conditional(draft: Draft, tools: Tools) -> Goal:
    get, tool = tools
    entity, goal, rng = draft.entity(tool), Goal(), draft.rng
    column = entity.field(tool.field)
    allowed = [value for c in tool.requires if c.field == column.name for value in c.values]
    asked = rng.choice(allowed)
    holds = rng.random() < 0.5
    row = draft.row(entity, **{column.name: asked if holds else draft.value(column, asked)})
    key = row[entity.key]
    goal.call(get, key=key)
    if holds:
        act = _act(draft, goal, tool, row, "it", 0)
        goal.looked(get, key=key)
        goal.says(key)
    else:
        act = say_act(tool, rng, {"what": "it"})
        goal.forbid(tool)
        goal.says(row[column.name], grounded=True, without=_other_states(column, row[column.name]))
    goal.slots = {"act": act, "entity": entity.label, "key": key, "field": column.label, "state": asked}
    if not holds:
        goal.slots["answer"] = row[column.name]
    return goal


def _find_lookup(draft: Draft, tools: Tools) -> Goal:
    find, get = tools
    entity, goal = draft.entity(get), Goal()
    row, by = draft.row(entity), entity.field(find.field)
    others = [f for f in map(entity.field, get.returns) if f.type != "ref" and f.name != by.name]
    field = draft.rng.choice(others)
    goal.call(find, **{by.name: row[by.name]})
    goal.call(get, key=row[entity.key])
    goal.looked(find, **{by.name: row[by.name]})
    without = tuple(value for value in _other_values(row, get, field.name) if value != row[by.name])
    goal.says(row[field.name], grounded=True, without=without)
    goal.slots = {
        "entity": entity.label, "by": by.label, "value": row[by.name], "field": field.label, "answer": row[field.name],
    }  # fmt: skip
    return goal


def _both(draft: Draft, tools: Tools) -> Goal:
    (tool,) = tools
    entity, goal = draft.entity(tool), Goal()
    one, two = draft.ready(tool), draft.ready(tool)
    keys = one[entity.key], two[entity.key]
    for key in keys:
        goal.call(tool, key=key)
        goal.expect(entity, key, tool.field, tool.target)
        goal.says(key)
    act = say_act(tool, draft.rng, {"what": f"{entity.label} {keys[0]} and {entity.label} {keys[1]}"})
    goal.slots = {"act": act, "entity": entity.label, "key": keys[0], "other": keys[1]}
    return goal


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("lookup", _ops("get"), _lookup),
        Kind("find", _ops("find"), _find),
        Kind("set", _ops("set"), _acted),
        Kind("create", _ops("create"), _create),
        Kind("transition", _ops("transition"), _acted),
        Kind("adjust", _ops("add", "take"), _acted),
        Kind("transfer", _ops("transfer"), _transfer),
        Kind("refused", _ops("transition"), _refused),
        Kind("find_act", _pairs("find", *ACTING), _find_act),
        Kind("two_hop", _two_hop_options, _two_hop),
        Kind("conditional", _pairs("get", "transition"), _conditional),
        Kind("find_lookup", _pairs("find", "get"), _find_lookup),
        Kind("both", _ops("transition"), _both),
    )
}
