"""Agents by rule for tasks with tools: plans as messages, and calls at random."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from openk2.schema import Message, Observation, Task, ToolCall
from openk2.worlds.gates import random_arguments

NUM_CALLS = 5


def calls_of(plan: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The steps of a plan, each a message."""
    return [
        Message(
            "assistant",
            tool_calls=[ToolCall(f"functions.{step['tool']}:{number}", step["tool"], json.dumps(step["arguments"]))],
        )
        for number, step in enumerate(plan)
    ]


def call_at_random(task: Task, observation: Observation, rng: Random) -> Sequence[Message]:
    """Calls of declared tools with values of the right types, and a number for an answer."""
    tools = [rng.choice(observation.tools) for _ in range(NUM_CALLS)]
    plan = [{"tool": tool.name, "arguments": random_arguments(tool, rng)} for tool in tools]
    return [*calls_of(plan), Message("assistant", str(rng.randrange(1000)))]
