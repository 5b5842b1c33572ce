"""One trajectory: a teacher plays a task, the rubric decides, and everything stands in one record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import openk2
from openk2.sandbox.once import Runner
from openk2.schema import JSON, Message, Task
from openk2.worlds.execution.gates import failed_gate
from openk2.worlds.execution.teacher import Teacher
from openk2.worlds.execution.world import BoxWorld
from openk2.worlds.state import hash_of


async def play(task: Task, *, seed: int, sloppiness: float, recipe: str, pool: Runner | None = None) -> JSON:
    """A trajectory as a record; one that failed says stage and reason."""
    assert task.rubric is not None, "an execution task has a rubric"
    world = BoxWorld(task.payload, pool=pool)
    await world.start()
    teacher = Teacher(task, seed=seed, sloppiness=sloppiness)
    messages = await teacher.play(world)
    rows = await world.rows()
    score = await world.score(task.rubric, teacher.answer, rows)
    record: JSON = {
        "id": f"{task.id}#{seed}",
        "messages": [message.to_json() for message in messages],
        "tools": [tool.to_json() for tool in world.tools],
        "split": task.split,
        "kind": task.kind,
        "tags": list(task.tags),
        "rubric": task.rubric.to_json(),
        "score": {"total": score.total, "parts": score.parts},
        "seed": seed,
        "calls": _calls(world),
        "state": {"before": hash_of(world.initial), "after": hash_of(rows)},
        "provenance": {"author": "scripted", "version": openk2.__version__, "recipe": recipe},
    }
    if not score.passed:
        missed = sorted({item.check for item in task.rubric.items if score.parts[item.name] < 1})
        record |= {"stage": "judge", "reason": f"missed {' + '.join(missed)}"}
    return record


async def records_of(task: Task, *, num: int, sloppiness: float, recipe: str) -> list[JSON]:
    """All records of a task: ``num`` trajectories, or one reject when the task itself is none."""
    try:
        gate = await failed_gate(task)
    except ValueError as error:
        return [{"id": task.id, "stage": "task", "reason": str(error)}]
    if gate is not None:
        return [{"id": task.id, "stage": "gates", "reason": gate, "task": task.to_json()}]
    return [await play(task, seed=seed, sloppiness=sloppiness, recipe=recipe) for seed in range(num)]


async def replays(record: Mapping[str, Any], task: Task, *, pool: Runner | None = None) -> bool:
    """Whether the recorded calls, made again, give the recorded results and end in the recorded state."""
    world = BoxWorld(task.payload, pool=pool)
    await world.start()
    for message in record["messages"]:
        for call in Message.from_json(message).tool_calls:
            await world.run(call)
    state = {"before": hash_of(world.initial), "after": hash_of(await world.rows())}
    return _calls(world) == record["calls"] and state == record["state"]


def _calls(world: BoxWorld) -> list[JSON]:
    return [{"name": called.name, "arguments": called.arguments, "result": called.result} for called in world.log]
