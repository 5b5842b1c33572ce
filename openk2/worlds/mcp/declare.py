"""A stranger's tool as our own declaration: a name that can be called, a clean description, a plain schema."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from openk2.schema import ToolSpec
from openk2.worlds.mcp.descriptions import clean
from openk2.worlds.mcp.schemas import BadSchemaError, plain

MAX_NAME = 64
UNCALLABLE = re.compile(r"[^A-Za-z0-9_-]+")


def declare(name: Any, description: Any, schema: Any) -> tuple[ToolSpec, Counter[str]]:
    """The declaration, and what was mended, by name. Raises BadSchemaError with the reason for what cannot be mended."""
    called = callable_name(name)
    parameters, mended = plain(schema)
    text = clean(description) if isinstance(description, str) else ""
    if called != name:
        mended["name"] += 1
    if isinstance(description, str) and text != description.strip():
        mended["description"] += 1
    return ToolSpec(called, text, parameters), mended


def callable_name(name: Any) -> str:
    """The name in letters, digits, ``_`` and ``-``, at most 64. Raises BadSchemaError when none is left."""
    called = UNCALLABLE.sub("_", name).strip("_")[:MAX_NAME] if isinstance(name, str) else ""
    if isinstance(name, str) and not UNCALLABLE.search(name) and len(name) <= MAX_NAME:
        called = name
    if not called:
        raise BadSchemaError("no name")
    return called
