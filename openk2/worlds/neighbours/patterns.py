"""Patterns of values: what an argument may be, as plain JSON, so that a task carries its own check.

{"any_of": [pattern, …]}                       one of them
{"fields": {name: pattern}, "optional": [name]}  an object with these fields; optional ones may be missing
{"items": [pattern, …]}                        an array, item by item
{"text": "…"}                                  this text, but for case, blanks and light punctuation
{"holds": "…"}                                 a text that has this one in it, compared in the same way
{"integer": n}                                 this whole number, written as one
{"value": v}                                   this number (5 is 5.0), truth value or null
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Pattern = Mapping[str, Any]

LIGHT = re.compile(r"[\s,./\-_*^]")
NOTHING = object()


def matches(pattern: Pattern, value: Any) -> bool:
    """Whether the value is one of those the pattern stands for. Raises ValueError for an unknown pattern."""
    match pattern:
        case {"any_of": patterns}:
            return any(matches(each, value) for each in patterns)
        case {"fields": fields, "optional": optional}:
            return _has_fields(fields, set(optional), value)
        case {"items": patterns}:
            return isinstance(value, list) and len(value) == len(patterns) and all(map(matches, patterns, value))
        case {"text": text}:
            return isinstance(value, str) and lightly(value) == lightly(text)
        case {"holds": text}:
            return isinstance(value, str) and lightly(text) in lightly(value)
        case {"integer": number}:
            return type(value) is int and value == number
        case {"value": wanted}:
            return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)
    raise ValueError(f"no pattern: {pattern!r}")


def _has_fields(fields: Mapping[str, Pattern], optional: set[str], value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() <= fields.keys()
        and fields.keys() - optional <= value.keys()
        and all(matches(fields[name], given) for name, given in value.items())
    )


def lightly(text: str) -> str:
    """The text without blanks and light punctuation, in small letters, with one kind of quotes."""
    return LIGHT.sub("", text).lower().replace("'", '"')


def example(pattern: Pattern) -> Any:
    """A value that the pattern stands for, whole with its optional fields, or ``NOTHING`` where there is none."""
    match pattern:
        case {"any_of": patterns}:
            return next((found for each in patterns if (found := example(each)) is not NOTHING), NOTHING)
        case {"fields": fields}:
            found = {name: example(each) for name, each in fields.items()}
            return {name: value for name, value in found.items() if value is not NOTHING}
        case {"items": patterns}:
            return [example(each) for each in patterns]
        case {"text": value} | {"holds": value} | {"integer": value} | {"value": value}:
            return value
    raise ValueError(f"no pattern: {pattern!r}")
