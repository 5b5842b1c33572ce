"""From merged data to a typed model, with errors in the words of whoever wrote the file."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from types import NoneType
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from openk2.recipe.files import JSON, NONE, Key, Origin

M = TypeVar("M", bound=BaseModel)


def check(model: type[M], data: JSON, origin: Origin, name: str) -> M:
    """``data`` as a ``model``; types are strict, as TOML has them.

    ``name`` is the file to name where ``origin`` knows nothing closer. Raises ValueError: one line with the file,
    the dotted key and what would be right.
    """
    data = _with_nulls(model, data)
    try:
        # By way of JSON, because there pydantic's strict mode knows that a list may be meant as a tuple.
        return model.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        key, words = explain(error, model)
        raise ValueError(f"{_who(key, origin) or name}: {words}") from None


def explain(error: ValidationError, model: type[BaseModel]) -> tuple[Key, str]:
    """The key of a validation's first problem, misspelt keys before all others, and one line about it."""
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    key = tuple(str(part) for part in problems[0]["loc"])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return key, _problem(problems[0], key, model) + more


def nearest(key: Key, model: type[BaseModel]) -> str:
    """What to say after an unknown ``key``: the likeliest valid one, else those that stand in its place."""
    siblings = [*_class_at(model, key[:-1]).model_fields]
    close = difflib.get_close_matches(key[-1], siblings, n=1)
    if close:
        return f"did you mean {'.'.join((*key[:-1], close[0]))}?"
    elsewhere = {".".join(known): known[-1] for known in known_keys(model)}
    moved = [dotted for dotted, last in elsewhere.items() if last == key[-1]]
    moved = moved or difflib.get_close_matches(".".join(key), elsewhere, n=1, cutoff=0.75)
    if moved:
        return f"did you mean {moved[0]}?"
    return f"known here: {', '.join(siblings)}"


def knows(model: type[BaseModel], key: Key) -> bool:
    """True when ``key`` names something a recipe may set, list positions and names in mappings included."""
    for part in key:
        if part.isdigit():
            continue
        if part not in model.model_fields:
            return False
        inner = _model_in(model.model_fields[part].annotation)
        if inner is None:
            return True  # whatever follows is the value's own affair
        model = inner
    return True


def known_keys(model: type[BaseModel], prefix: Key = ()) -> Iterator[Key]:
    """Every key a file may set, tables included, in order."""
    for name, field in model.model_fields.items():
        yield (*prefix, name)
        inner = _model_in(field.annotation)
        if inner is not None:
            yield from known_keys(inner, (*prefix, name))


def _problem(problem: ErrorDetails, key: Key, model: type[BaseModel]) -> str:
    dotted = ".".join(key)
    if problem["type"] == "extra_forbidden":
        return f"{dotted}: unknown key; {nearest(key, model)}"
    if problem["type"] == "missing":
        return f"{dotted}: missing"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message[0].lower() + message[1:] if message.startswith("Input should") else message
    message = message.removeprefix("input ")
    found = problem["input"]
    if isinstance(found, str | int | float | bool):
        return f"{dotted} = {json.dumps(found, ensure_ascii=False)}: {message}"
    return f"{dotted}: {message}" if dotted else message


def _who(key: Key, origin: Origin) -> str | None:
    """Who last spoke of the key, or of the table around it."""
    for end in range(len(key), 0, -1):
        if key[:end] in origin:
            return origin[key[:end]]
    return None


def _class_at(model: type[BaseModel], key: Key) -> type[BaseModel]:
    for part in key:  # parts that are no field are list positions or names in a mapping
        field = model.model_fields.get(part)
        model = (_model_in(field.annotation) if field else None) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model class in an annotation such as ``X``, ``X | None`` or ``list[X]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((inner for inner in map(_model_in, get_args(annotation)) if inner), None)


def _with_nulls(model: type[BaseModel], data: JSON) -> JSON:
    """``"none"`` read as None wherever a field takes None."""
    out = dict(data)
    for name, value in data.items():
        field = model.model_fields.get(name)
        if field is None:
            continue
        inner = _model_in(field.annotation)
        if value == NONE and NoneType in get_args(field.annotation):
            out[name] = None
        elif isinstance(value, dict) and inner is not None:
            out[name] = _with_nulls(inner, value)
        elif isinstance(value, list) and inner is not None:
            out[name] = [_with_nulls(inner, item) if isinstance(item, dict) else item for item in value]
    return out
