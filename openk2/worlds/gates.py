"""Gates for tasks: a task is worth keeping when its oracle passes and whoever does less, nothing, or anything, fails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from random import Random
from typing import Any

from openk2.schema import JSON, Rubric, Score, Task, ToolCall, ToolSpec
from openk2.worlds.judge import judge
from openk2.worlds.simulator import Simulator
from openk2.worlds.teacher import ScriptedTeacher

RANDOM_CALLS = 3


def failed_gate(task: Task, *, seed: int) -> str | None:
    """The first gate a task fails, or None.

    ``null``: doing nothing earns something. ``prefix``: a part of the plan passes, even with the right answer, or the whole
    plan without answer. ``oracle``: the plan with its answer does not pass. ``replay``: the same calls end in another state
    or other results. ``random``: random calls and words pass.
    """
    assert task.rubric is not None, "a tool task has a rubric"
    answer = ScriptedTeacher(task, seed=seed).answer
    with closing(Simulator(task.payload, seed, fault_rate=0.0)) as world:
        return _examine(task, task.rubric, world, answer, Random(f"random/{task.id}/{seed}"))


def _examine(task: Task, rubric: Rubric, world: Simulator, answer: str, rng: Random) -> str | None:
    start = world.snapshot()

    def verdict(said: str) -> Score:
        return judge(rubric, world.initial, world.rows(), world.log, said)

    if verdict("").total > 0:
        return "null"
    for step in task.payload["plan"]:
        if verdict(answer).passed:
            return "prefix"
        world.run(_call(step))
    if verdict("").passed:
        return "prefix"
    if not verdict(answer).passed:
        return "oracle"
    if not _replays(task, world, start):
        return "replay"
    world.restore(start)
    _act_at_random(world, rng)
    return "random" if verdict(str(rng.randrange(1000))).passed else None


def _call(step: Mapping[str, Any]) -> ToolCall:
    return ToolCall("", step["tool"], json.dumps(step["arguments"]))


def _replays(task: Task, world: Simulator, start: JSON) -> bool:
    end, log = world.state_hash(), world.log
    world.restore(start)
    for step in task.payload["plan"]:
        world.run(_call(step))
    return world.state_hash() == end and world.log == log


def _act_at_random(world: Simulator, rng: Random) -> None:
    """Well-formed calls of declared tools with random values."""
    tools = world.tools
    for _ in range(RANDOM_CALLS):
        tool = rng.choice(tools)
        world.run(ToolCall("", tool.name, json.dumps(random_arguments(tool, rng))))


def random_arguments(tool: ToolSpec, rng: Random) -> dict[str, str | int]:
    """Values of the right types for all parameters of a tool."""
    return {
        name: rng.randrange(1000) if schema["type"] == "integer" else f"{rng.choice('ABC')}-{rng.randrange(1000)}"
        for name, schema in tool.parameters["properties"].items()
    }
