"""A trajectory told in order: each call beside what it returned, what it changed and the fault it met."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from openk2.jobs import jsonl
from openk2.schema import JSON
from openk2.view.json_text import pretty_json
from openk2.view.trajectories.record import Called, Item, Message, ToolCall, Trajectory


def story(trajectory: Trajectory) -> JSON:
    """All that is shown of a trajectory, as JSON: head, turns, rubric and what was executed without a turn."""
    turns, left = _turns(trajectory)
    return {
        "id": trajectory.id,
        "split": trajectory.split,
        "kind": trajectory.kind,
        "tags": list(trajectory.tags),
        "seed": trajectory.seed,
        "outcome": trajectory.outcome,
        "stage": trajectory.stage,
        "reason": trajectory.reason,
        "score": trajectory.score.total if trajectory.score else None,
        "turns": turns,
        "without_turn": [_executed(called) | {"name": called.name} for called in left],
        "rubric": [_outcome(item, trajectory) for item in trajectory.rubric.items] if trajectory.rubric else [],
        "agent": trajectory.agent,
        "user": trajectory.user,
        "state": trajectory.state,
        "provenance": trajectory.provenance,
        "tools": [{"name": tool.function.name, "description": tool.function.description} for tool in trajectory.tools],
    }


def words(trajectory: Trajectory) -> Iterator[str]:
    """Every text that a search goes through: what was said, called and returned, and why it was turned away."""
    yield trajectory.id
    yield trajectory.reason or ""
    for message in trajectory.messages:
        yield message.content or ""
        for call in message.tool_calls or ():
            yield call.function.name
            yield call.function.arguments


def _turns(trajectory: Trajectory) -> tuple[list[JSON], list[Called]]:
    """The turns, tool messages under their calls; and the executed calls that no turn made."""
    executed = list(trajectory.calls)
    results = {message.tool_call_id: message for message in trajectory.messages if message.role == "tool"}
    calls = [call for message in trajectory.messages for call in message.tool_calls or ()]
    answered = {call.id for call in calls}
    turns = []
    for message in trajectory.messages:
        if message.role == "tool" and message.tool_call_id in answered:
            continue
        shown = []
        for call in message.tool_calls or ():
            # The log is in order of the turns; a call that was never executed leaves its place to the next.
            called = executed.pop(0) if executed and executed[0].name == call.function.name else None
            shown.append(_call(call, results.get(call.id), called))
        if message.role == "user" and executed and _told(executed[0], message):
            acted = executed.pop(0)
            shown.append(_executed(acted) | {"name": acted.name})
        turns.append({"role": message.role, "content": message.content or "", "calls": shown})
    return turns, executed


def _told(called: Called, message: Message) -> bool:
    """Whether this is the message in which a user who acted tells what the tool showed."""
    return called.by == "user" and jsonl.dump(called.result) in (message.content or "")


def _call(call: ToolCall, result: Message | None, called: Called | None) -> JSON:
    shown: JSON = {"result": None, "fault": None, "changes": []} if called is None else _executed(called)
    if result is not None:
        shown["result"] = _pretty(result.content or "")
    return shown | {"name": call.function.name, "arguments": _pretty(call.function.arguments)}


def _executed(called: Called) -> JSON:
    return {
        "arguments": _laid_out(called.arguments),
        "result": _laid_out(called.result),
        "fault": called.fault,
        "changes": [
            {
                "record": " ".join(part for part in (change.app, change.entity, change.key) if part),
                "field": change.field or "whole record",
                "before": _laid_out(change.before),
                "after": _laid_out(change.after) or ("gone" if change.field is None else None),
            }
            for change in called.changes
        ],
    }


def _laid_out(value: Any) -> str | None:
    """A value as text: words as they are, anything else as JSON."""
    if value is None:
        return None
    return value if isinstance(value, str) else _pretty(json.dumps(value, ensure_ascii=False))


def _pretty(text: str) -> str:
    """JSON laid out; what nests too deep for that as it is."""
    try:
        return pretty_json(text)
    except RecursionError:
        return text


def _outcome(item: Item, trajectory: Trajectory) -> JSON:
    value = trajectory.score.parts.get(item.name) if trajectory.score else None
    spec = json.dumps(item.spec, ensure_ascii=False) if item.spec else ""
    return {"name": item.name, "check": item.check, "spec": _pretty(spec), "weight": item.weight, "value": value}
