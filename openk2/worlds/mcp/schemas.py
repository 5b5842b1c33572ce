"""JSON schemas as strangers write them, made plain: one object, known keywords, no references, of bounded size.

What can be read in one way only is mended and counted by name; what cannot is refused. The outcome is a JSON schema of
draft 2020-12 that any checker compiles, grammars understand and a model can read.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from openk2.schema import JSON
from openk2.worlds.mcp.descriptions import clean, is_hidden

MAX_BYTES = 65_536
MAX_DEPTH = 16
MAX_NODES = 2_000
MAX_NAME = 128
MAX_UNROLLED = 2  # times a definition is written out within itself

TYPES = ("string", "number", "integer", "boolean", "array", "object", "null")
OTHER_WORDS = {
    "str": "string", "text": "string", "date": "string", "datetime": "string", "date-time": "string", "uri": "string",
    "url": "string", "email": "string", "file": "string", "enum": "string", "uuid": "string",
    "int": "integer", "long": "integer", "int32": "integer", "int64": "integer",
    "float": "number", "double": "number", "decimal": "number",
    "bool": "boolean", "list": "array", "tuple": "array", "set": "array", "dict": "object", "map": "object",
    "none": "null", "undefined": "null",
}  # fmt: skip
BOOKKEEPING = ("$schema", "$id", "id", "$comment", "$defs", "definitions", "$anchor", "$vocabulary")
DROP = object()


class BadSchemaError(ValueError):
    """A schema that cannot be mended. ``reason`` is one of a few words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def plain(schema: Any) -> tuple[JSON, Counter[str]]:
    """The schema of a tool's parameters, made plain, and what was mended, by name.

    Raises BadSchemaError for what is no object's schema, refers outside or nowhere, or is too deep or too large.
    """
    if schema is None:
        return {"type": "object", "properties": {}}, Counter(["schema missing"])
    if not isinstance(schema, dict):
        raise BadSchemaError("not a schema")
    writer = _Plain(schema)
    out = writer.schema(writer.root, 0)
    if out.get("type", "object") != "object":
        raise BadSchemaError("not an object's schema")
    if "type" not in out:
        writer.mended["type missing"] += 1
    whole = {"type": "object", "properties": {}} | out
    if len(json.dumps(whole)) > MAX_BYTES:
        raise BadSchemaError("too large")
    return whole, writer.mended


class _Plain:
    """One schema being rewritten: ``root`` to look references up in, ``mended`` to count in."""

    def __init__(self, root: JSON) -> None:
        self.mended: Counter[str] = Counter()
        self.root = self._wrapped(root)
        self._unrolling: list[str] = []
        self._num_nodes = 0

    def _wrapped(self, root: JSON) -> JSON:
        """Parameters written without the object around them get one."""
        names = [name for name in root if name not in BOOKKEEPING]
        bare = names and all(isinstance(root[name], dict) and name not in HOLD_OBJECTS for name in names)
        if bare:
            self.mended["object missing"] += 1
            return {"type": "object", "properties": {n: root[n] for n in names}} | {
                n: root[n] for n in root if n not in names
            }
        return root

    def schema(self, node: Any, depth: int) -> JSON:
        """A schema anywhere below the root."""
        self._num_nodes += 1
        if depth > MAX_DEPTH:
            raise BadSchemaError("too deep")
        if self._num_nodes > MAX_NODES:
            raise BadSchemaError("too large")
        if not isinstance(node, dict):
            return self._from_other(node)
        if isinstance(node.get("$ref"), str):
            return self._referred(node, node["$ref"], depth)
        out: JSON = {}
        for key, value in node.items():
            kept = self._keyword(key, value, depth)
            if kept is not DROP:
                out[key] = kept
        self._settle_items(node, out, depth)
        self._settle_bounds(node, out)
        self._settle_null(out)
        self._settle_type(out)
        self._settle_required(node, out)
        return out

    def _from_other(self, node: Any) -> JSON:
        if node is not True:
            self.mended["schema not an object"] += 1
        if isinstance(node, str) and (word := _word(node)):
            return {"type": word}
        return {}

    def _keyword(self, key: str, value: Any, depth: int) -> Any:
        if key in SCHEMAS_WITHIN:
            return SCHEMAS_WITHIN[key](self, value, depth + 1)
        if key in CHECKS:
            kept = CHECKS[key](value)
            if kept is DROP:
                self.mended[f"{key} wrong"] += 1
            return kept
        if key not in BOOKKEEPING and key not in SETTLED:
            self.mended["keyword unknown"] += 1
        return DROP

    # -- schemas within -----------------------------------------------------------------------

    def _one(self, value: Any, depth: int) -> Any:
        return self.schema(value, depth)

    def _open(self, value: Any, depth: int) -> Any:
        """``additionalProperties``: whether others are allowed, or what they look like."""
        return value if isinstance(value, bool) else self.schema(value, depth)

    def _several(self, value: Any, depth: int) -> Any:
        if isinstance(value, list) and value:
            return [self.schema(item, depth) for item in value]
        self.mended["choices wrong"] += 1
        return DROP

    def _named(self, value: Any, depth: int) -> Any:
        if not isinstance(value, dict):
            self.mended["properties wrong"] += 1
            return {}
        for name in value:
            if len(name) > MAX_NAME or any(is_hidden(character) for character in name):
                raise BadSchemaError("a name that cannot be written")
        return {name: self.schema(inner, depth) for name, inner in value.items()}

    def _referred(self, node: JSON, reference: str, depth: int) -> JSON:
        """The definition written out here; within itself it is an open object after a while."""
        self.mended["reference written out"] += 1
        rest = {key: value for key, value in node.items() if key != "$ref"}
        if self._unrolling.count(reference) >= MAX_UNROLLED:
            self.mended["reference loop cut"] += 1
            return {"type": "object"}
        target = self._target(reference)
        self._unrolling.append(reference)
        try:
            return self.schema({**target, **rest}, depth + 1)
        finally:
            self._unrolling.pop()

    def _target(self, reference: str) -> JSON:
        if not reference.startswith("#"):
            raise BadSchemaError("a reference outside")
        found: Any = self.root
        for part in unquote(reference[1:]).split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            elif isinstance(found, dict) and key in found:
                found = found[key]
            else:
                raise BadSchemaError("a reference to nothing")
        if not isinstance(found, dict):
            raise BadSchemaError("a reference to nothing")
        return found

    # -- keywords that depend on each other ---------------------------------------------------

    def _settle_items(self, node: JSON, out: JSON, depth: int) -> None:
        """``items`` as a list is the older form of ``prefixItems``."""
        items = node.get("items")
        if isinstance(items, list):
            self.mended["items a list"] += 1
            if items:
                out["prefixItems"] = [self.schema(item, depth + 1) for item in items]
        elif "items" in node:
            out["items"] = self.schema(items, depth + 1)

    def _settle_bounds(self, node: JSON, out: JSON) -> None:
        """``exclusiveMinimum: true`` is the older form of a number there."""
        for bound in ("minimum", "maximum"):
            exclusive = "exclusive" + bound.capitalize()
            value = node.get(exclusive)
            if isinstance(value, bool):
                self.mended["exclusive bound a flag"] += 1
                if value and bound in out:
                    out[exclusive] = out.pop(bound)
            elif exclusive in node and _number(value) is not DROP:
                out[exclusive] = value

    def _settle_null(self, out: JSON) -> None:
        """Nothing and null say the same of a parameter: null goes."""
        nullable = False
        for key in ("anyOf", "oneOf"):
            choices = out.get(key, [])
            left = [choice for choice in choices if choice.get("type") != "null" and choice.get("const", 0) is not None]
            if left and len(left) < len(choices):
                nullable = True
                out[key] = left
            if len(left) == 1:
                del out[key]
                for name, value in left[0].items():
                    out.setdefault(name, value)
        types = out.get("type")
        if isinstance(types, list) and "null" in types and len(types) > 1:
            nullable = True
            types.remove("null")
        if nullable:
            self.mended["null allowed"] += 1
            if out.get("default", 0) is None:
                del out["default"]
            values = [value for value in out.get("enum", []) if value is not None]
            if values:
                out["enum"] = values

    def _settle_type(self, out: JSON) -> None:
        types = out.get("type")
        if isinstance(types, list) and len(types) == 1:
            out["type"] = types[0]
        if types or any(key in out for key in ("anyOf", "oneOf", "allOf", "not")):
            return
        if guess := _guessed(out):
            out["type"] = guess
            self.mended["type missing"] += 1

    def _settle_required(self, node: JSON, out: JSON) -> None:
        """Names of properties there are; a ``required: true`` within a property is the older form."""
        properties = node.get("properties")
        if not isinstance(properties, dict):
            if "required" in node and not isinstance(node["required"], bool):
                self.mended["required wrong"] += 1
            return
        listed = node.get("required", [])
        names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
        inner = [name for name, p in properties.items() if isinstance(p, dict) and p.get("required") is True]
        required = [name for name in dict.fromkeys([*names, *inner]) if name in properties]
        if inner or (not isinstance(listed, bool) and listed != required):
            self.mended["required wrong"] += 1
        if required:
            out["required"] = required


def _word(name: Any) -> str | None:
    word = name.strip().lower() if isinstance(name, str) else ""
    return word if word in TYPES else OTHER_WORDS.get(word)


def _type(value: Any) -> Any:
    if isinstance(value, list):
        words = [word for name in value if (word := _word(name))]
        return list(dict.fromkeys(words)) or DROP
    return _word(value) or DROP


def _guessed(out: JSON) -> str | None:
    """The type that the other keywords speak of."""
    for keys, word in (
        (("properties", "additionalProperties", "patternProperties"), "object"),
        (("items", "prefixItems", "minItems", "maxItems"), "array"),
        (("pattern", "minLength", "maxLength", "format"), "string"),
        (("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), "number"),
    ):
        if any(key in out for key in keys):
            return word
    values = out.get("enum") or [out[key] for key in ("const", "default") if key in out]
    words = {_type_of(value) for value in values}
    return words.pop() if len(words) == 1 else None


def _type_of(value: Any) -> str | None:
    if isinstance(value, bool):
        return "boolean"
    for kind, word in ((str, "string"), (int, "integer"), (float, "number"), (list, "array"), (dict, "object")):
        if isinstance(value, kind):
            return word
    return None


def _number(value: Any) -> Any:
    right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if right else DROP


def _positive(value: Any) -> Any:
    return value if _number(value) is not DROP and value > 0 else DROP


def _count(value: Any) -> Any:
    return int(value) if _number(value) is not DROP and value >= 0 and value == int(value) else DROP


def _flag(value: Any) -> Any:
    return value if isinstance(value, bool) else DROP


def _text(value: Any) -> Any:
    return clean(value) if isinstance(value, str) else DROP


def _short(value: Any) -> Any:
    return value if isinstance(value, str) and len(value) <= MAX_NAME else DROP


def _pattern(value: Any) -> Any:
    """A pattern that Python reads too; those that only JavaScript reads go."""
    if not isinstance(value, str) or len(value) > 1000:
        return DROP
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError):
        return DROP
    return value


def _values(value: Any) -> Any:
    if not isinstance(value, list) or not value:
        return DROP
    return list({json.dumps(item, sort_keys=True): item for item in value}.values())


def _any(value: Any) -> Any:
    return value


def _list(value: Any) -> Any:
    return value if isinstance(value, list) else DROP


# What a keyword's value has to be; DROP leaves it out.
CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "type": _type, "title": _text, "description": _text, "enum": _values, "const": _any, "default": _any,
    "examples": _list, "format": _short, "pattern": _pattern, "minimum": _number, "maximum": _number,
    "multipleOf": _positive, "minLength": _count, "maxLength": _count, "minItems": _count, "maxItems": _count,
    "minProperties": _count, "maxProperties": _count, "uniqueItems": _flag, "deprecated": _flag,
}  # fmt: skip
# Keywords whose values are schemas again.
SCHEMAS_WITHIN: Mapping[str, Callable[[_Plain, Any, int], Any]] = {
    "properties": _Plain._named, "additionalProperties": _Plain._open, "prefixItems": _Plain._several,
    "anyOf": _Plain._several, "oneOf": _Plain._several, "allOf": _Plain._several, "not": _Plain._one,
}  # fmt: skip
SETTLED = ("items", "required", "exclusiveMinimum", "exclusiveMaximum", "$ref")
# Keywords that hold an object themselves: a schema with one of these is no bare list of parameters.
HOLD_OBJECTS = (*SCHEMAS_WITHIN, *SETTLED, "const", "default")
