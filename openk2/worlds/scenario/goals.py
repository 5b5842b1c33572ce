"""What a user may want, generic over apps: each goal is given tools, invents records, and plays the dialogue to its end."""

from __future__ import annotations

from openk2.schema import JSON
from openk2.worlds.scenario.records import Records
from openk2.worlds.scenario.script import Ask, Call, Fact, Goal, Tell
from openk2.worlds.spec import Field, Tool, split_role
from openk2.worlds.users import say, say_act

Tools = tuple[Tool, ...]


# -- reading ----------------------------------------------------------------------------------


def _asked(draft: Records, tool: Tool) -> Field:
    """A field that ``tool`` shows and that a person would ask for."""
    entity = draft.entity(tool)
    return draft.rng.choice([entity.field(name) for name in tool.returns if entity.field(name).type != "ref"])


def _others(result: JSON, said: str) -> tuple[str | int, ...]:
    """What the same record shows beside the field asked for: saying it all is no answer."""
    return tuple(value for name, value in result.items() if name != said and value != result[said])


def lookup(draft: Records, tools: Tools) -> Goal:
    """Read one field of a record named by its key."""
    (get,) = tools
    entity, field = draft.entity(get), _asked(draft, get)
    key = draft.row(entity)[entity.key]
    yield Ask(say("lookup", draft.rng, {"entity": entity.label, "key": key, "field": field.label}))
    result = yield Call(get, {"key": key})
    value = result[field.name]
    yield Tell(
        f"The {field.label} of {entity.label} {key} is {value}.", (Fact(value, without=_others(result, field.name)),)
    )


def find(draft: Records, tools: Tools) -> Goal:
    """The key of a record named by another value."""
    (tool,) = tools
    entity = draft.entity(tool)
    by = entity.field(tool.field)
    value = draft.row(entity)[by.name]
    yield Ask(say("find", draft.rng, {"entity": entity.label, "by": by.label, "value": value}))
    result = yield Call(tool, {by.name: value})
    yield Tell(f"The {entity.label} with {by.label} {value} is {result[entity.key]}.", (Fact(result[entity.key]),))


def two_hop(draft: Records, tools: Tools) -> Goal:
    """A field of the record that another points to."""
    first, second = tools
    entity, other = draft.entity(first), draft.entity(second)
    field, link = (
        _asked(draft, second),
        next(f for f in entity.fields if f.ref == other.name and f.name in first.returns),
    )
    target = draft.row(other)[other.key]
    key = draft.row(entity, **{link.name: target})[entity.key]
    slots: JSON = {"entity": entity.label, "key": key, "other": link.label, "field": field.label}
    yield Ask(say("two_hop", draft.rng, slots))
    shown = yield Call(first, {"key": key}, needed=True)
    result = yield Call(second, {"key": shown[link.name]})
    value = result[field.name]
    text = f"The {field.label} of {other.label} {shown[link.name]} is {value}."
    yield Tell(text, (Fact(value, without=_others(result, field.name)),))


def _value(draft: Records, field: Field) -> str | int:
    """Something to put into a field."""
    return draft.existing(field) if field.ref else draft.value(field)


def _other_value(draft: Records, field: Field, *old: str | int) -> str | int:
    """Something else, where the field has more than that."""
    for _ in range(20):
        value = _value(draft, field)
        if value not in old:
            return value
    return value


# -- changing one record ----------------------------------------------------------------------


def _acting(draft: Records, tool: Tool, what: str, amount: int) -> tuple[str, JSON]:
    """The clause that asks for one change, and the roles of the call beside the key."""
    entity = draft.entity(tool)
    slots: JSON = {"what": what}
    roles: JSON = {}
    if tool.op == "set":
        field = entity.field(tool.field)
        roles = {field.name: _value(draft, field)}
        slots |= {"field": field.label, "value": roles[field.name]}
    elif tool.op in ("add", "take"):
        roles = {"amount": amount}
        slots |= {"field": entity.field(tool.field).label, "amount": amount}
    return say_act(tool, draft.rng, slots), roles


def act(draft: Records, tools: Tools) -> Goal:
    """Change a record named by its key."""
    (tool,) = tools
    entity, amount = draft.entity(tool), draft.amount()
    key = draft.ready(tool, amount=amount)[entity.key]
    clause, roles = _acting(draft, tool, f"{entity.label} {key}", amount)
    yield Ask(f"Please {clause}.")
    yield Call(tool, {"key": key, **roles})
    yield Tell(f"Done with {entity.label} {key}.", (Fact(key, grounded=False),))


def find_act(draft: Records, tools: Tools) -> Goal:
    """Change a record that the user knows by another value."""
    finding, tool = tools
    entity, amount = draft.entity(tool), draft.amount()
    by = entity.field(finding.field)
    value = draft.ready(tool, amount=amount)[by.name]
    clause, roles = _acting(draft, tool, f"the {entity.label} with {by.label} {value}", amount)
    yield Ask(f"Please {clause}.")
    result = yield Call(finding, {by.name: value}, needed=True)
    yield Call(tool, {"key": result[entity.key], **roles})
    yield Tell(f"Done: that was {entity.label} {result[entity.key]}.", (Fact(result[entity.key]),))


def ask_back(draft: Records, tools: Tools) -> Goal:
    """Change a record that the user names only when asked: what one does not know, one asks."""
    (tool,) = tools
    entity, amount = draft.entity(tool), draft.amount()
    key = draft.ready(tool, amount=amount)[entity.key]
    clause, roles = _acting(draft, tool, f"my {entity.label}", amount)
    yield Ask(f"Could you {clause}?")
    yield Tell(f"Which {entity.label} is it?")
    yield Ask(draft.rng.choice((f"It is {key}.", f"{entity.label} {key}.", f"{key}, sorry.")))
    yield Call(tool, {"key": key, **roles})
    yield Tell(f"Thank you: {entity.label} {key} is done.", (Fact(key, grounded=False),))


def act_and_check(draft: Records, tools: Tools) -> Goal:
    """Change a record, and say how it stands then: an old reading would not do."""
    tool, get = tools
    entity, amount = draft.entity(tool), draft.amount()
    field, key = entity.field(tool.field), draft.ready(tool, amount=amount)[entity.key]
    clause, roles = _acting(draft, tool, f"{entity.label} {key}", amount)
    yield Ask(f"Please {clause}, and tell me its {field.label} then.")
    yield Call(tool, {"key": key, **roles})
    result = yield Call(get, {"key": key})
    value = result[field.name]
    yield Tell(f"Done: the {field.label} of {key} is now {value}.", (Fact(value, without=_others(result, field.name)),))


def change_of_mind(draft: Records, tools: Tools) -> Goal:
    """A value is set, and then the user wants another."""
    (tool,) = tools
    entity = draft.entity(tool)
    field, key = entity.field(tool.field), draft.ready(tool)[entity.key]
    first = _value(draft, field)
    second = _other_value(draft, field, first)
    slots: JSON = {"what": f"{entity.label} {key}", "field": field.label, "value": first}
    yield Ask(f"Please {say_act(tool, draft.rng, slots)}.")
    yield Call(tool, {"key": key, field.name: first})
    yield Tell(f"The {field.label} of {key} is now {first}.", (Fact(key, grounded=False),))
    yield Ask(
        draft.rng.choice((f"Sorry, I meant {second}.", f"Wait, make that {second}.", f"On second thoughts: {second}."))
    )
    yield Call(tool, {"key": key, field.name: second})
    yield Tell(f"Changed to {second} for {key}.", (Fact(second, grounded=False),))


def create(draft: Records, tools: Tools) -> Goal:
    """A new record; its key is what the system says."""
    (tool,) = tools
    entity = draft.entity(tool)
    draft.new_key(entity)
    values = draft.links(tool)
    for param in tool.params:
        if param.role not in values and not (param.optional and draft.rng.random() < 0.5):
            values[param.role] = _value(draft, entity.field(param.role))
    pairs = ", ".join(f"{entity.field(name).label} {value}" for name, value in values.items())
    yield Ask(f"Please {say_act(tool, draft.rng, {'entity': entity.label, 'pairs': pairs})}.")
    result = yield Call(tool, values)
    yield Tell(f"The new {entity.label} is {result[entity.key]}.", (Fact(result[entity.key]),))


def transfer(draft: Records, tools: Tools) -> Goal:
    """Move an amount from one record to another."""
    (tool,) = tools
    entity, amount = draft.entity(tool), draft.amount()
    ends = {"source": draft.ready(tool, amount=amount)[entity.key], "target": draft.ready(tool)[entity.key]}
    slots: JSON = {"entity": entity.label, "field": entity.field(tool.field).label, "amount": amount, **ends}
    yield Ask(f"Please {say_act(tool, draft.rng, slots)}.")
    yield Call(tool, {**ends, "amount": amount})
    yield Tell(f"Moved {amount} from {ends['source']} to {ends['target']}.", (Fact(ends["target"], grounded=False),))


def refused(draft: Records, tools: Tools) -> Goal:
    """What a rule of the system forbids: the agent tries, and says why not."""
    (tool,) = tools
    entity = draft.entity(tool)
    column = entity.field(tool.field)
    allowed = {value for condition in tool.requires if condition.field == column.name for value in condition.values}
    state = draft.rng.choice([value for value in column.values if value not in allowed])
    key = draft.row(entity, **{column.name: state})[entity.key]
    yield Ask(f"Please {say_act(tool, draft.rng, {'what': f'{entity.label} {key}'})}.")
    yield Call(tool, {"key": key}, ends="refused")
    # Which state it would have to be in, or is asked for, may be said as well.
    others = tuple(value for value in column.values if value not in (state, tool.target, *allowed))
    yield Tell(f"That is not allowed: the {column.label} of {key} is {state}.", (Fact(state, without=others),))


def update(draft: Records, tools: Tools) -> Goal:
    """Change several fields of a record at once."""
    (tool,) = tools
    entity = draft.entity(tool)
    key = draft.ready(tool)[entity.key]
    fields = [entity.field(param.role) for param in tool.params if param.role != "key"]
    values = {field.name: _value(draft, field) for field in draft.rng.sample(fields, draft.rng.randint(2, len(fields)))}
    values |= {
        p.role: _value(draft, entity.field(p.role))
        for p in tool.params
        if not p.optional and p.role not in ("key", *values)
    }
    pairs = " and ".join(f"{entity.field(name).label} to {value}" for name, value in values.items())
    yield Ask(
        draft.rng.choice((f"For {entity.label} {key}, set {pairs}.", f"Please change {entity.label} {key}: {pairs}."))
    )
    yield Call(tool, {"key": key, **values})
    yield Tell(f"{entity.label.capitalize()} {key} is updated.", (Fact(key, grounded=False),))


def remove(draft: Records, tools: Tools) -> Goal:
    """Delete a record."""
    (tool,) = tools
    entity = draft.entity(tool)
    key = draft.ready(tool)[entity.key]
    yield Ask(f"Please {tool.verb or 'remove'} {entity.label} {key}.")
    result = yield Call(tool, {"key": key}, ends="either way")
    if "error" in result:  # something still points to it
        yield Tell(f"{entity.label.capitalize()} {key} has to stay: {result['error']}.", (Fact(result["error"]),))
    else:
        yield Tell(f"{entity.label.capitalize()} {key} is gone.", (Fact(key, grounded=False),))


# -- over several records ---------------------------------------------------------------------


def _filter(draft: Records, tool: Tool) -> tuple[JSON, str]:
    """A filter that some record passes, by parameters' roles and in words."""
    entity = draft.entity(tool)
    offered = [param for param in tool.params if param.role != "limit"]
    row, roles, words = draft.row(entity), dict[str, str | int](), []
    wanted = [param for param in offered if not param.optional] or [draft.rng.choice(offered)]
    for param in wanted:
        name, comparison = split_role(param.role)
        field, value = entity.field(name), row[name]
        roles[param.role] = value
        relation = {"=": "", ">=": "at least ", "<=": "at most "}[comparison]
        words.append(f"{field.label} {relation}{value}")
    return roles, " and ".join(words)


def search(draft: Records, tools: Tools) -> Goal:
    """Which records there are of a sort."""
    (tool,) = tools
    entity = draft.entity(tool)
    roles, words = _filter(draft, tool)
    yield Ask(
        draft.rng.choice((f"Which {entity.label} records have {words}?", f"List every {entity.label} with {words}."))
    )
    result = yield Call(tool, roles)
    keys = [row[entity.key] for row in result["records"]]
    yield Tell(f"With {words}: {', '.join(keys) or 'none'}.", tuple(Fact(key) for key in keys))


def aggregate(draft: Records, tools: Tools) -> Goal:
    """How many, how much, the most or the least."""
    (tool,) = tools
    entity = draft.entity(tool)
    roles, words = _filter(draft, tool)
    what = (
        f"number of {entity.label} records"
        if tool.measure == "count"
        else f"{tool.measure} of {tool.field.replace('_', ' ')}"
    )
    yield Ask(f"What is the {what} with {words}?")
    result = yield Call(tool, roles)
    value = result[tool.measure]
    yield Tell(f"The {what} with {words} is {value}.", (Fact(value),))


def for_each(draft: Records, tools: Tools) -> Goal:
    """The same change to every record of a sort."""
    searching, tool = tools
    entity = draft.entity(tool)
    for _ in range(draft.rng.randint(1, 3)):
        draft.ready(tool)
    roles, words = _filter(draft, searching)
    yield Ask(f"Please {tool.verb} every {entity.label} with {words} that can be.")
    result = yield Call(searching, roles, needed=True)
    done = []
    for row in result["records"]:
        answer = yield Call(tool, {"key": row[entity.key]}, ends="either way")
        if "error" not in answer:
            done.append(row[entity.key])
    yield Tell(f"Done for {', '.join(done) or 'none'}.", tuple(Fact(key) for key in done))
