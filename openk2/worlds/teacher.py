"""The scripted teacher: carries out a task's plan as a chat model would, and errs on purpose at a stated rate.

It holds the plan, so it is an oracle with a manner of speaking, not a language model.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from openk2.schema import JSON, Message, Sampling, Task, ToolCall, ToolSpec
from openk2.worlds.simulator import FAULT

ACTED = (
    "Done: {entity} {key}.",
    "Done with {key}.",
    "{entity} {key} is done.",
    "That is done for {key}.",
    "Done, {key}.",
)
# An answer names the field: to say which fact comes next makes it the easier to find.
TOLD = (
    "The {field} is {answer}.",
    "{field}: {answer}.",
    "Its {field} is {answer}.",
    "It has {field} {answer}.",
    "{field} {answer}.",
)

ANSWERS: Mapping[str, tuple[str, ...]] = {
    "lookup": TOLD,
    "two_hop": TOLD,
    "find_lookup": TOLD,
    "find": (
        "It is {entity} {answer}.",
        "{entity} {answer}.",
        "That is {entity} {answer}.",
        "The {entity} is {answer}.",
        "{entity}: {answer}.",
    ),
    "create": ("Created {entity} {key}.", "The new {entity} is {key}.", "Done, it is {key}.", "{entity} {key} is new."),
    "refused": (
        "Not possible: {field} is {answer}.",
        "I cannot, the {field} is {answer}.",
        "Refused, its {field} is {answer}.",
        "That fails: {field} is {answer}.",
        "Sorry, the {field} is {answer}.",
    ),
    "both": ("Done: {key} and {other}.", "{key} and {other} are done.", "Done with {key} and {other}."),
}
VAGUE = ("Done.", "All good.", "I took care of it.", "That is settled.", "Here you are.")


class ScriptedTeacher:
    """Answers one task's conversation. Stateless between turns: where it stands is read off the messages."""

    def __init__(self, task: Task, *, seed: int, sloppiness: float = 0.0) -> None:
        """With probability ``sloppiness`` (per task and seed) the plan or the answer gets one error."""
        rng = Random(f"teacher/{task.id}/{seed}")
        payload = task.payload
        self.plan: list[JSON] = copy.deepcopy(payload["plan"])
        self.answer = _answer(task.kind, payload["slots"], rng)
        if rng.random() < sloppiness:
            self._err(payload, rng)

    async def complete(self, messages: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling) -> Message:
        """The next call of the plan (the same again after a temporary fault), or the answer when it is through."""
        results = [message.content for message in messages if message.role == "tool"]
        position = sum(FAULT not in result for result in results)
        if position >= len(self.plan):
            return Message("assistant", self.answer)
        step = self.plan[position]
        arguments = json.dumps(step["arguments"], separators=(",", ":"), ensure_ascii=False)
        call = ToolCall(f"functions.{step['tool']}:{len(results)}", step["tool"], arguments)
        return Message("assistant", tool_calls=[call])

    def _err(self, payload: Mapping[str, Any], rng: Random) -> None:
        match rng.choice(("wrong_key", "wrong_value", "skipped_step", "missing_fact")):
            case "wrong_key":
                keys = [str(next(iter(row.values()))) for rows in payload["rows"].values() for row in rows]
                self._replace(keys, rng)
            case "wrong_value":
                self._replace([], rng)
            case "skipped_step":
                del self.plan[rng.randrange(len(self.plan))]
            case "missing_fact":
                self.answer = rng.choice(VAGUE)

    def _replace(self, candidates: Sequence[str], rng: Random) -> None:
        """Put a wrong value into one argument of one call: a candidate, or the right one with a slip."""
        arguments = rng.choice(self.plan)["arguments"]
        name = rng.choice(list(arguments))
        right = arguments[name]
        if isinstance(right, int):
            arguments[name] = right + rng.choice((-10, -1, 1, 10))
            return
        others = [value for value in candidates if value != right]
        cut = rng.randrange(len(right))
        arguments[name] = rng.choice(others) if others else right[:cut] + right[cut + 1 :]


def _answer(kind: str, slots: Mapping[str, Any], rng: Random) -> str:
    if kind == "conditional" and "answer" in slots:
        return rng.choice(TOLD).format(**slots)
    return rng.choice(ANSWERS.get(kind, ACTED)).format(**slots)
