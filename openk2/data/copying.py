"""Generated documents that can only be continued by copying from what stands before.

The largest lever for a small agent: values that nobody can guess are shown once, then wanted again in
prose, in JSON, in tool calls. Only what can be known carries loss. Not from the paper; see docs/data.md.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from openk2.data.documents import Document
from openk2.data.values import Values

Parts = list[tuple[str, bool]]

_KEYS = [
    "id",
    "owner",
    "status",
    "name",
    "email",
    "city",
    "date",
    "amount",
    "price",
    "total",
    "count",
    "level",
    "color",
    "type",
    "title",
    "phone",
    "address",
    "room",
    "due",
    "priority",
    "category",
    "customer",
    "author",
    "team",
    "stock",
    "rating",
    "start",
    "end",
    "note",
    "tag",
    "code",
    "region",
    "plan",
    "role",
]
_VERBS = "set get find list show open close add remove move send book cancel update assign mark rename check".split()  # noqa: SIM905
_ASKED = (
    "What is the {key} of {id}?",
    "{id}: what is its {key}?",
    "Tell me the {key} of {id}.",
    "Which {key} does {id} have?",
)
_TOLD = ("The {key} of {id} is", "{id} has the {key}", "For {id}, the {key} is")


def copying(seed: int, source: str = "copying") -> Iterator[Document]:
    """Documents without end, the same for the same seed."""
    rng = random.Random(seed)
    values = Values(rng)
    families = list(_FAMILIES)
    bounds = list(accumulate(_FAMILIES.values()))
    while True:
        [family] = rng.choices(families, cum_weights=bounds)
        yield Document(tuple(family(values)), source)


def _compact(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)


def _key(values: Values) -> str:
    """A field's name: a usual one, an invented one, or both."""
    return values.pick((values.pick(_KEYS), values.pick(_KEYS), values.word(), f"{values.word()}_{values.pick(_KEYS)}"))


def _value(values: Values, depth: int = 0) -> Any:
    """A value of a field: mostly text, some numbers, true, null and short lists."""
    if values.chance(0.8):
        return values.anything()
    if depth == 0 and values.chance(0.2):
        return [_value(values, depth + 1) for _ in range(values.between(1, 3))]
    return values.pick((int(values.number()), int(values.number()), True, False, None))


def _plain(value: Any) -> str:
    """A value as prose has it."""
    return value if isinstance(value, str) else _compact(value)


def _records(values: Values, count: int) -> list[dict[str, Any]]:
    """Records with the same keys and an identifier each."""
    keys = values.distinct(lambda: _key(values), values.between(2, 5))
    make_id = values.pick((values.code, values.code, values.name, values.person, values.number))
    ids = values.distinct(make_id, count)
    id_key = values.pick(("id", "id", "name", f"{values.word()}_id"))
    return [{id_key: each} | {key: _value(values) for key in keys if key != id_key} for each in ids]


def repeats(values: Values) -> Parts:
    """A segment of words, codes or names, said once more or several times."""
    make = values.pick((values.anything, values.word, values.code, values.name, values.person))
    items = [make() for _ in range(values.between(2, 24))]
    between, end = values.pick(((" ", "\n"), (", ", ".\n"), ("\n", "\n\n"), (" | ", "\n"), ("; ", " / ")))
    segment = between.join(items) + end
    return [(segment, False)] + [(segment, True)] * values.between(1, 3)


def recall(values: Values) -> Parts:
    """Pairs, then the same keys in another order: only the values can be known."""
    make = values.pick((values.word, values.code, values.name, values.person))
    pairs = [(key, values.anything()) for key in values.distinct(make, values.between(2, 10))]
    middle, end = values.pick(((": ", "\n"), (" -> ", "\n"), (" = ", "; "), (" is ", ". ")))
    parts: Parts = [("".join(f"{key}{middle}{value}{end}" for key, value in pairs), False)]
    for key, value in values.shuffled(pairs)[: values.between(2, 8)]:
        parts += [(f"{key}{middle}", False), (f"{value}{end}", True)]
    return parts


def questions(values: Values) -> Parts:
    """Records as a tool returns them, then questions or statements about their fields."""
    records = _records(values, values.pick((1, 1, 2, 3, 4, 5)))
    shown = _compact(records[0]) if len(records) == 1 else _compact(records)
    parts: Parts = [(shown + "\n", False)]
    id_key = next(iter(records[0]))
    for _ in range(values.between(2, 6)):
        record = values.pick(records)
        key = values.pick(list(record)[1:] or [id_key])
        words = {"key": key, "id": record[id_key]}
        if values.chance(0.5):
            parts += [(values.pick(_ASKED).format(**words), False), (f" {_plain(record[key])}\n", True)]
        else:
            parts += [(values.pick(_TOLD).format(**words), False), (f" {_plain(record[key])}.\n", True)]
    return parts


def objects(values: Values) -> Parts:
    """Records, then other objects that name one of them and want its fields."""
    records = _records(values, values.between(1, 5))
    parts: Parts = [(_compact(records) + "\n", False)]
    id_key = next(iter(records[0]))
    for _ in range(values.between(1, 4)):
        record = values.pick(records)
        keys = values.shuffled(list(record)[1:])[: values.between(1, 3)]
        parts.append((f'{{"{id_key}":{_compact(record[id_key])}', False))
        for key in keys:
            parts += [(f',"{key}":', False), (_compact(record[key]), True)]
        parts.append(("}\n", True))
    return parts


def lists(values: Values) -> Parts:
    """A list in one shape, then in another, in the same order."""
    make = values.pick((values.word, values.code, values.name, values.person, values.anything))
    items = [make() for _ in range(values.between(2, 12))]
    key = _key(values)
    shapes = [", ".join(items), "\n".join(f"- {item}" for item in items), _compact(items), _compact({key: items})]
    first, second = values.shuffled(shapes)[:2]
    return [(f"{key}:\n{first}\n{key}:\n", False), (second + "\n", True)]


def edits(values: Values) -> Parts:
    """A record, a change in words, the whole record after it."""
    [record] = _records(values, 1)
    parts: Parts = [(_compact(record) + "\n", False)]
    for _ in range(values.between(1, 3)):
        key = values.pick(list(record)[1:] or list(record))
        record = record | {key: values.anything()}
        wish = values.pick(("Set {key} to {value}.", "The {key} is now {value}.", "Change {key}: {value}."))
        parts += [(wish.format(key=key, value=record[key]) + "\n", False), (_compact(record) + "\n", True)]
    return parts


def calls(values: Values) -> Parts:
    """Declared tools of invented names, commands in words, and the calls that carry them out."""
    tools = [_tool(values) for _ in range(values.between(1, 3))]
    declared = [_declaration(name, verb, noun, keys) for name, verb, noun, keys in tools]
    parts: Parts = [("# Tools\n" + _compact(declared) + "\n", False)]
    for index in range(values.between(1, 5)):
        name, verb, noun, keys = values.pick(tools)
        arguments: Mapping[str, Any] = {key: values.anything() for key in keys}
        wanted = [f"{key.replace('_', ' ')} {value}" for key, value in values.shuffled(list(arguments.items()))]
        opening = values.pick((f"{verb} the {noun}", f"Please {verb} the {noun}", f"I want to {verb} a {noun}"))
        parts.append((f"{opening}: {', '.join(wanted)}.\n", False))
        parts.append((f"functions.{name}:{index}{_compact(arguments)}\n", True))
    return parts


def _tool(values: Values) -> tuple[str, str, str, Sequence[str]]:
    """A tool's name, verb, noun and parameters."""
    verb = values.pick((values.pick(_VERBS), values.word()))
    noun = values.word()
    return f"{verb}_{noun}", verb, noun, values.distinct(lambda: _key(values), values.between(1, 3))


def _declaration(name: str, verb: str, noun: str, keys: Sequence[str]) -> dict[str, Any]:
    properties = {key: {"type": "string"} for key in keys}
    parameters = {"type": "object", "properties": properties, "required": list(keys)}
    function = {"name": name, "description": f"{verb.capitalize()} a {noun}.", "parameters": parameters}
    return {"type": "function", "function": function}


# How often each family comes.
_FAMILIES: Mapping[Callable[[Values], Parts], float] = {
    repeats: 0.08,
    recall: 0.1,
    questions: 0.2,
    objects: 0.15,
    lists: 0.05,
    edits: 0.07,
    calls: 0.35,
}
