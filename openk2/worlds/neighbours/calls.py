"""One turn against what was wanted: the calls in any order, their arguments, and words that must be said.

A task's payload holds ``messages`` and ``tools`` (OpenAI's shapes) and ``answers``, of which one is enough:
``{"calls": [{"name", "arguments": pattern}], "says": [text, …]}``. An answer without calls wants that none is made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openk2.schema import JSON, Message, Score, Task, ToolCall, ToolSpec
from openk2.worlds.neighbours.patterns import Pattern, matches


@dataclass(frozen=True, slots=True)
class Wanted:
    """A call that is right: the tool, and the pattern of its arguments."""

    name: str
    arguments: Pattern


def call_task(
    task_id: str,
    family: str,
    category: str,
    messages: Sequence[Message],
    tools: Sequence[ToolSpec],
    answers: Sequence[JSON],
) -> Task:
    """A task of one turn; its split is ``test``, as these are for measuring alone."""
    payload = {
        "messages": [message.to_json() for message in messages],
        "tools": [tool.to_json() for tool in tools],
        "answers": list(answers),
    }
    return Task(task_id, family, category, "test", payload)


def answer(calls: Sequence[Wanted] = (), says: Sequence[str] = ()) -> JSON:
    """One way to be right, as plain JSON."""
    return {"calls": [{"name": call.name, "arguments": dict(call.arguments)} for call in calls], "says": list(says)}


def judge_turn(payload: Mapping[str, Any], reply: Message | None) -> Score:
    """1 where the reply is one of the answers, else 0.

    Parts: ``understood`` (every call could be read), ``functions`` (the right tools, as often as wanted), ``correct``.
    """
    made = None if reply is None else _read(reply.tool_calls)
    if reply is None or made is None:
        return Score(0.0, {"understood": 0.0, "functions": 0.0, "correct": 0.0})
    answers = payload["answers"]
    functions = any(sorted(name for name, _ in made) == sorted(c["name"] for c in each["calls"]) for each in answers)
    correct = float(any(_pairs(each["calls"], made) and _says(each["says"], reply.content) for each in answers))
    return Score(correct, {"understood": 1.0, "functions": float(functions), "correct": correct})


Made = tuple[str, JSON]


def _read(calls: Sequence[ToolCall]) -> list[Made] | None:
    """Names and arguments, or None when one of the calls is malformed."""
    made: list[Made] = []
    for call in calls:
        try:
            arguments = None if call.error else json.loads(call.arguments)
        except (ValueError, RecursionError):
            return None
        if not isinstance(arguments, dict):
            return None
        made.append((call.name, arguments))
    return made


def _pairs(wanted: Sequence[JSON], made: Sequence[Made]) -> bool:
    """Whether each wanted call has a made one of its own, and none is left over."""
    if len(wanted) != len(made):
        return False
    if not wanted:
        return True
    first, rest = wanted[0], wanted[1:]
    return any(
        name == first["name"] and matches(first["arguments"], given) and _pairs(rest, [*made[:i], *made[i + 1 :]])
        for i, (name, given) in enumerate(made)
    )


def _says(wanted: Sequence[str], content: str) -> bool:
    return all(text in content for text in wanted)
