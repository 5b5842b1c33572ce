"""Seeded renaming of an app: the same structure in other words (domain randomisation).

A model that sees each app under one set of names learns the names. Under a new skin a dialogue, nouns, verbs, fields,
enum values, tool names, parameter names, their order and the descriptions all change, so it has to read what is declared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from openk2.worlds.spec import RESERVED, App, Condition, Entity, Field, FieldType, Param, Tool
from openk2.worlds.values import Pool
from openk2.worlds.wordbank import FIELDS, NOUNS, STATES, VERBS

# The usual word comes most often: a small model has to meet it, and to read on when another stands there.
OP_VERBS = {
    "get": ("get", "get", "get", "get", "read", "show"),
    "find": ("find", "find", "find", "find", "search", "locate"),
    "create": ("create", "create", "create", "make", "register"),
    "set": ("set", "set", "set", "set", "change", "update"),
}
KEYS = ("{noun}", "{noun}", "{noun}", "{noun}_id", "{noun}_no", "id", "key")
SET_PARAMS = ("{field}", "{field}", "{field}", "new_{field}", "value")
AMOUNTS = ("amount", "amount", "amount", "quantity", "number", "units")
ENDS = (
    ("source", "target"),
    ("source", "target"),
    ("from", "to"),
    ("sender", "receiver"),
    ("giver", "taker"),
)
DESCRIPTIONS = {
    "get": (
        "read {noun}",
        "show {noun}",
        "details of {noun}",
        "{noun} record",
        "fetch {noun}",
        "about {noun}",
    ),
    "find": ("find {noun} by {field}", "{noun} with {field}", "search {noun} by {field}", "{field} to {noun}"),
    "create": ("{verb} {noun}", "new {noun}", "start {noun}", "make {noun}"),
    "set": ("set {field}", "change {field}", "update {noun} {field}", "write {field}", "new {field}"),
    "transition": ("{verb} {noun}", "{verb} one {noun}", "{verb} {noun} now", "to {verb} {noun}"),
    "add": ("{verb} to {field}", "{verb} {field}", "{verb}: more {field}", "increase {field}"),
    "take": ("{verb} from {field}", "{verb} {field} off", "{verb}: less {field}", "decrease {field}"),
    "transfer": ("{verb} {field}", "{verb} {field} between", "{verb} {field} over"),
}
EXTRA_TYPES: tuple[FieldType, ...] = ("word", "amount", "date", "code", "name", "time")


class Words:
    """Draws distinct names: pseudo-words of the training pool, or English from the bank."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._pool = Pool(rng, heldout=False)
        self._drawn: set[str] = set(RESERVED).union(*OP_VERBS.values())

    def draw(self, bank: tuple[str, ...]) -> str:
        """A name nobody in this skin bears yet."""
        while True:
            word = self._pool.word() if self._rng.random() < 0.7 else self._rng.choice(bank)
            if word not in self._drawn:
                self._drawn.add(word)
                return word


def rename(app: App, rng: Random) -> App:
    """The app in other words; the tools keep their order."""
    words = Words(rng)
    pointed_at = [field.ref for entity in app.entities for field in entity.fields if field.ref]
    nouns = {
        name: words.draw(NOUNS) for name in dict.fromkeys([*(entity.name for entity in app.entities), *pointed_at])
    }
    fields = {entity.name: _rename_fields(entity, nouns, words, rng) for entity in app.entities}
    states = {v: words.draw(STATES) for entity in app.entities for field in entity.fields for v in field.values}
    entities = []
    for entity in app.entities:
        names = fields[entity.name]
        renamed = [
            replace(f, name=names[f.name], values=tuple(states[v] for v in f.values), ref=nouns[f.ref] if f.ref else "")
            for f in entity.fields
        ]
        if rng.random() < 0.5:
            renamed.append(Field(words.draw(FIELDS), rng.choice(EXTRA_TYPES)))
        entities.append(Entity(nouns[entity.name], tuple(renamed)))
    style = Style(rng)
    by_noun = {entity.name: entity for entity in entities}
    tools = []
    for tool in app.tools:
        verb = words.draw(VERBS) if tool.verb and tool.op != "create" else ""
        entity = by_noun[nouns[tool.entity]]
        tools.append(style.apply(_translate(tool, fields[tool.entity], states, nouns), entity, verb))
    return App(app.name, tuple(entities), tuple(tools))


def _rename_fields(entity: Entity, nouns: dict[str, str], words: Words, rng: Random) -> dict[str, str]:
    """New column names. The key follows the noun, a ref bears the noun it points to."""
    names = {entity.key: rng.choice(KEYS).format(noun=nouns[entity.name])}
    if names[entity.key] in RESERVED:
        names[entity.key] = "id"
    for field in entity.fields[1:]:
        names[field.name] = nouns[field.ref] if field.ref else words.draw(FIELDS)
    return names


def _translate(tool: Tool, fields: dict[str, str], states: dict[str, str], nouns: dict[str, str]) -> Tool:
    """The tool over the renamed entity, with its own names still the old ones."""
    return replace(
        tool,
        entity=nouns[tool.entity],
        field=fields[tool.field] if tool.field else "",
        target=states[tool.target] if tool.target else "",
        params=tuple(Param(p.name, fields.get(p.role, p.role)) for p in tool.params),
        returns=tuple(fields[name] for name in tool.returns),
        requires=tuple(
            Condition(fields[c.field], c.test, tuple(states.get(v, v) for v in c.values)) for c in tool.requires
        ),
    )


class Style:
    """One manner of naming tools and parameters, kept through an app."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._join: Callable[[str, str], str] = rng.choice((_verb_first, _verb_first, _verb_first, _noun_first))
        self._verbs = {op: rng.choice(verbs) for op, verbs in OP_VERBS.items()}
        self._set_param = rng.choice(SET_PARAMS)
        self._amount = rng.choice(AMOUNTS)
        self._ends = rng.choice(ENDS)
        self._is_shuffled = rng.random() < 0.3

    def apply(self, tool: Tool, entity: Entity, verb: str) -> Tool:
        """The tool with new name, description, verb, parameter names and order."""
        verb = verb or self._verbs.get(tool.op, "")
        field = tool.field
        thing = field if tool.op in ("set", "add", "take", "transfer") else entity.name
        params = [Param(self._param(tool, entity, param.role), param.role) for param in tool.params]
        if self._is_shuffled:
            self._rng.shuffle(params)
        label = field.replace("_", " ")
        text = self._rng.choice(DESCRIPTIONS[tool.op]).format(
            noun=entity.label, field=label, verb=verb.replace("_", " ")
        )
        return replace(
            tool,
            name=self._join(verb, thing),
            description=text,
            verb="" if tool.op in ("get", "find", "set") else verb.replace("_", " "),
            params=tuple(params),
            returns=tuple(self._rng.sample(tool.returns, len(tool.returns))),
        )

    def _param(self, tool: Tool, entity: Entity, role: str) -> str:
        match role:
            case "key":
                return entity.key
            case "source":
                return self._ends[0]
            case "target":
                return self._ends[1]
            case "amount":
                return self._amount
        if tool.op == "set":
            name = self._set_param.format(field=role)
            return role if name == entity.key else name
        return role


def _verb_first(verb: str, thing: str) -> str:
    return f"{verb}_{thing}"


def _noun_first(verb: str, thing: str) -> str:
    return f"{thing}_{verb}"
