"""Gates for tasks of one turn: the right answer passes; silence and every wrong argument fail."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from openk2.schema import JSON, Message, Task, ToolCall
from openk2.worlds.neighbours.calls import judge_turn
from openk2.worlds.neighbours.patterns import Pattern, example, matches

CallGate = Literal["gold", "empty", "wrong"]
WRONG = "qqq"  # in no answer, and no answer is in it


def failed_gates(task: Task) -> list[CallGate]:
    """The gates that the task fails.

    ``gold``: one of the right answers does not score 1. ``empty``: a reply without a word or call scores. ``wrong``: a
    right answer with one argument changed, a call too few or too many, or other words scores.
    """
    answers = task.payload["answers"]
    failed: list[CallGate] = []
    if not all(_scores(task, gold_reply(each)) == 1 for each in answers):
        failed.append("gold")
    if _scores(task, Message("assistant")) > 0:
        failed.append("empty")
    if any(_scores(task, wrong) > 0 for each in answers for wrong in wrong_replies(task.payload, each)):
        failed.append("wrong")
    return failed


def _scores(task: Task, reply: Message) -> float:
    return judge_turn(task.payload, reply).total


def gold_reply(answer: JSON) -> Message:
    """A reply that is right by an answer: its calls with the first values allowed, its words."""
    calls = [_call(each["name"], example(each["arguments"])) for each in answer["calls"]]
    return Message("assistant", " ".join(answer["says"]), calls)


def _call(name: str, arguments: JSON) -> ToolCall:
    return ToolCall(f"functions.{name}:0", name, json.dumps(arguments))


def wrong_replies(payload: Mapping[str, Any], answer: JSON) -> Iterator[Message]:
    """The right reply with one thing wrong: each argument in turn, one more, another tool, a call missing or doubled, a
    call where none helps, and words that are not those wanted.
    """
    gold = gold_reply(answer)
    for i, (call, wanted) in enumerate(zip(gold.tool_calls, answer["calls"], strict=True)):
        arguments = json.loads(call.arguments)
        for name, value in arguments.items():
            changed = _changed(value, wanted["arguments"]["fields"][name])
            yield _with_call(gold, i, _call(call.name, {**arguments, name: changed}))
        yield _with_call(gold, i, _call(call.name, {**arguments, "no_such_argument": 1}))
        yield _with_call(gold, i, _call(call.name + "_other", arguments))
    if gold.tool_calls:
        yield replace(gold, tool_calls=gold.tool_calls[1:])
        yield replace(gold, tool_calls=[*gold.tool_calls, gold.tool_calls[0]])
    else:
        first = payload["tools"][0]["function"]["name"]
        yield replace(gold, tool_calls=[_call(first, {})])
    if gold.content:
        yield replace(gold, content=WRONG)


def _with_call(gold: Message, index: int, call: ToolCall) -> Message:
    return replace(gold, tool_calls=[*gold.tool_calls[:index], call, *gold.tool_calls[index + 1 :]])


def _changed(value: Any, pattern: Pattern) -> Any:
    """Another value of the same type; a text where both truth values are right."""
    match value:
        case bool():
            return WRONG if matches(pattern, not value) else not value
        case int() | float():
            return value + 1_000_003
        case str():
            return WRONG
        case list():
            return [*value, WRONG]
        case dict():
            return {**value, WRONG: WRONG}
    return WRONG
