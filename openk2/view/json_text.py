"""JSON laid out for reading: what fits on a line stays on it."""

from __future__ import annotations

import json
from typing import Any

WIDTH = 88


def pretty_json(text: str) -> str:
    """A JSON text with long objects and lists broken over lines; any other text as it is."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError:
        return text
    return _lay_out(data, "")


def _lay_out(data: Any, indent: str) -> str:
    flat = json.dumps(data, ensure_ascii=False)
    if len(indent) + len(flat) <= WIDTH or not isinstance(data, dict | list):
        return flat
    inner = indent + "  "
    if isinstance(data, list):
        items = [inner + _lay_out(item, inner) for item in data]
        return "[\n" + ",\n".join(items) + f"\n{indent}]"
    items = [f"{inner}{json.dumps(key, ensure_ascii=False)}: {_lay_out(value, inner)}" for key, value in data.items()]
    return "{\n" + ",\n".join(items) + f"\n{indent}}}"
