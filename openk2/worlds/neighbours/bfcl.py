"""BFCL v4, the categories of one Python turn: simple_python, multiple, parallel, irrelevance.

Scored as the leaderboard documents: one function each (parallel: as many as wanted, in any order), required arguments
there, none unexpected, each value among those allowed; an argument that allows "" may be missing. Texts are compared
without case, blanks and ",./-_*^". For irrelevance the right turn makes no call, so silence passes there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openk2.schema import JSON, Message, Task, ToolSpec
from openk2.worlds.neighbours.calls import Wanted, answer, call_task
from openk2.worlds.neighbours.declared import tool_name, tools
from openk2.worlds.neighbours.mapped import Mapped, Unmappable, map_items, read_lines
from openk2.worlds.neighbours.patterns import Pattern

CATEGORIES = ("simple_python", "multiple", "parallel", "irrelevance")


def read_bfcl(folder: Path, categories: Sequence[str] = CATEGORIES) -> Mapped:
    """The items of the folder's ``BFCL_v4_CATEGORY.json``, with the answers of its ``possible_answer``.

    Raises FileNotFoundError for a category that is not there, ValueError for a file that is none of JSON lines.
    """
    return sum((_category(folder, category) for category in categories), Mapped((), ()))


def _category(folder: Path, category: str) -> Mapped:
    name = f"BFCL_v4_{category}.json"
    truths: dict[str, Any] = {}
    if category != "irrelevance":
        truths = {item["id"]: item["ground_truth"] for item in read_lines(folder / "possible_answer" / name)}
    return map_items(category, read_lines(folder / name), lambda item: _task(item, category, truths))


def _task(item: JSON, category: str, truths: Mapping[str, Any]) -> Task:
    turns = item["question"]
    if len(turns) != 1:
        raise Unmappable("asks over several turns")
    declared = tools(item["function"])
    if category == "irrelevance":
        right = answer()
    elif item["id"] in truths:
        right = answer([_wanted(truth, declared) for truth in truths[item["id"]]])
    else:
        raise Unmappable("has no answer in possible_answer")
    messages = [Message.from_json(message) for message in turns[0]]
    return call_task(f"bfcl-{item['id']}", "bfcl", category, messages, declared, [right])


def _wanted(truth: Mapping[str, Mapping[str, Any]], declared: Sequence[ToolSpec]) -> Wanted:
    ((written, allowed),) = truth.items()
    name = tool_name(written)
    tool = next((tool for tool in declared if tool.name == name), None)
    if tool is None:
        raise Unmappable("the answer calls a tool that is not declared")
    properties: Mapping[str, Any] = tool.parameters["properties"]
    if not allowed.keys() <= properties.keys():
        raise Unmappable("the answer has an argument that is not declared")
    if any(required not in allowed for required in tool.parameters.get("required", ())):
        raise Unmappable("the answer lacks a required argument")
    fields = {key: _any_of(values, properties[key].get("type")) for key, values in allowed.items()}
    required = set(tool.parameters.get("required", ()))
    optional = [key for key, values in allowed.items() if "" in values and key not in required]
    return Wanted(name, {"fields": fields, "optional": optional})


def _any_of(values: Any, declared_type: str | None) -> Pattern:
    """The pattern of the listed values. "" says that the argument may be missing, and is a value for texts alone."""
    if not isinstance(values, list):
        raise Unmappable("the answer lists no alternatives")
    texts = declared_type in ("string", None)
    kept = [value for value in values if value != ""] + [""] * (texts and "" in values)
    return {"any_of": [_pattern(value, declared_type) for value in kept]}


def _pattern(value: Any, declared_type: str | None = None) -> Pattern:
    """One alternative. Objects list alternatives for each field; arrays hold values."""
    if isinstance(value, dict):
        fields = {key: _any_of(values, None) for key, values in value.items()}
        return {"fields": fields, "optional": [key for key, values in value.items() if "" in values]}
    if isinstance(value, list):
        return {"items": [_pattern(item) for item in value]}
    if isinstance(value, str):
        return {"text": value}
    if declared_type == "integer" and type(value) is int:
        return {"integer": value}
    return {"value": value}
