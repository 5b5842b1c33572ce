"""Gates for execution tasks: kept when the plan passes and whoever does less, or nothing, fails."""

from __future__ import annotations

from openk2.sandbox.once import Runner
from openk2.schema import Task, ToolCall
from openk2.worlds.execution.world import BoxWorld
from openk2.worlds.simulator import encode
from openk2.worlds.state import hash_of


async def failed_gate(task: Task, *, pool: Runner | None = None) -> str | None:
    """The first gate a task fails, or None.

    ``null``: doing nothing earns something. ``claim``: the right answer without a call passes. ``prefix``: the plan without its
    last change of state passes. ``oracle``: the plan with its answer does not. ``replay``: the same calls end in another state.
    """
    assert task.rubric is not None, "an execution task has a rubric"
    plan = [ToolCall("", step["tool"], encode(step["arguments"])) for step in task.payload["plan"]]
    answer = task.payload["answer"]
    world = BoxWorld(task.payload, pool=pool)
    await world.start()
    if (await world.score(task.rubric, "", world.initial)).total > 0:
        return "null"
    if (await world.score(task.rubric, answer, world.initial)).passed:
        return "claim"
    start, state, passed = world.snapshot(), hash_of(world.initial), False
    for call in plan:
        await world.run(call)
        rows = await world.rows()
        if passed and hash_of(rows) != state:
            return "prefix"
        state, passed = hash_of(rows), (await world.score(task.rubric, answer, rows)).passed
    if not passed:
        return "oracle"
    results = [called.result for called in world.log]
    world.restore(start)
    for call in plan:
        await world.run(call)
    same = hash_of(await world.rows()) == state and [called.result for called in world.log] == results
    return None if same else "replay"
