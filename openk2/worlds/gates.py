"""Gates for tasks: a task is worth keeping when its oracle passes and whoever does less, nothing, or anything, fails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import Any

from openk2.schema import Task, ToolCall, ToolSpec
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
    plan = task.payload["plan"]
    world = Simulator(task.payload, seed, fault_rate=0.0)
    if judge(task.rubric, world.initial, world.rows(), world.log, "").total > 0:
        return "null"
    for step in plan:
        if judge(task.rubric, world.initial, world.rows(), world.log, answer).passed:
            return "prefix"
        world.run(_call(step))
    after = world.rows()
    if judge(task.rubric, world.initial, after, world.log, "").passed:
        return "prefix"
    if not judge(task.rubric, world.initial, after, world.log, answer).passed:
        return "oracle"
    if not _replays(task, world):
        return "replay"
    world.close()
    return "random" if _random_passes(task, seed) else None


def _call(step: Mapping[str, Any]) -> ToolCall:
    return ToolCall("", step["tool"], json.dumps(step["arguments"]))


def _replays(task: Task, world: Simulator) -> bool:
    again = Simulator(task.payload, 0, fault_rate=0.0)
    for step in task.payload["plan"]:
        again.run(_call(step))
    same = again.state_hash() == world.state_hash() and again.log == world.log
    again.close()
    return same


def _random_passes(task: Task, seed: int) -> bool:
    """Well-formed calls of declared tools with random values, and a number as the answer."""
    assert task.rubric is not None
    rng = Random(f"random/{task.id}/{seed}")
    world = Simulator(task.payload, seed, fault_rate=0.0)
    tools = world.tools
    for _ in range(RANDOM_CALLS):
        tool = rng.choice(tools)
        world.run(ToolCall("", tool.name, json.dumps(_random_arguments(tool, rng))))
    passed = judge(task.rubric, world.initial, world.rows(), world.log, f"{rng.randrange(1000)}").passed
    world.close()
    return passed


def _random_arguments(tool: ToolSpec, rng: Random) -> dict[str, str | int]:
    return {
        name: rng.randrange(1000) if schema["type"] == "integer" else f"{rng.choice('ABC')}-{rng.randrange(1000)}"
        for name, schema in tool.parameters["properties"].items()
    }
