"""Tools as the benchmarks declare them, made into the JSON schemas that every model server takes.

BFCL and ACEBench write Python's words for types ("dict", "float", "tuple") and names with dots. Here types are JSON
schema's, and a name has letters, digits, "_" and "-" alone (OpenAI's rule; BFCL replaces dots in the same way).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from openk2.schema import JSON, ToolSpec
from openk2.worlds.neighbours.mapped import Unmappable

TYPES: Mapping[str, str | None] = {
    "string": "string",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "array": "array",
    "object": "object",
    "null": "null",
    "dict": "object",
    "float": "number",
    "tuple": "array",
    "list": "array",
    "int": "integer",
    "any": None,  # says nothing
}
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def tools(functions: Sequence[Mapping[str, Any]]) -> list[ToolSpec]:
    """The declared functions in order. Raises ``Unmappable`` for what no server would take."""
    specs = [_tool(function) for function in functions]
    if len({spec.name for spec in specs}) != len(specs):
        raise Unmappable("two tools share a name")
    return specs


def tool_name(name: str) -> str:
    """The name with "_" for each dot. Raises ``Unmappable`` where that is still none."""
    plain = name.replace(".", "_")
    if not NAME.fullmatch(plain):
        raise Unmappable("a tool's name has other than letters, digits, _ and -, or over 64 of them")
    return plain


def _tool(function: Mapping[str, Any]) -> ToolSpec:
    declared = function.get("parameters", function.get("arguments"))  # ACEBench has both words
    if not isinstance(declared, dict):
        raise Unmappable("a tool declares no parameters")
    parameters = {"type": "object", "properties": {}, **json_schema(declared)}
    if parameters["type"] != "object":
        raise Unmappable("a tool's parameters are no object")
    return ToolSpec(tool_name(function["name"]), function.get("description", ""), parameters)


def json_schema(declared: Mapping[str, Any]) -> JSON:
    """One schema, and those within it, with JSON schema's types. Raises ``Unmappable`` for an unknown type."""
    out = dict(declared)
    if isinstance(named := out.pop("type", None), str):
        if named not in TYPES:
            raise Unmappable(f"a parameter has the type {named!r}")
        if (plain := TYPES[named]) is not None:
            out = {"type": plain, **out}
    elif named is not None:
        out = {"type": named, **out}
    if isinstance(properties := out.get("properties"), dict):
        out["properties"] = {name: json_schema(_schema(schema)) for name, schema in properties.items()}
    if isinstance(items := out.get("items"), dict):
        out["items"] = json_schema(items)
    return out


def _schema(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Unmappable("a parameter's schema is no object")
    return value
