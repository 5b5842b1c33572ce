"""Gates for scenarios: kept when the plan passes and whoever does less, nothing, or anything, fails."""

from __future__ import annotations

from contextlib import closing
from random import Random

from openk2.schema import ToolCall
from openk2.worlds.gates import random_arguments
from openk2.worlds.judge import judge, passes
from openk2.worlds.scenario.conversation import Scenario
from openk2.worlds.scenario.faults import NO_FAULTS
from openk2.worlds.scenario.world import World
from openk2.worlds.simulator import encode

RANDOM_CALLS = 5


def failed_gate(scenario: Scenario) -> str | None:
    """The first gate a scenario fails, or None.

    ``null``: doing nothing earns something. ``prefix``: a part of the plan passes, even with every answer, or the whole plan
    without answers. ``oracle``: the plan with its answers does not pass. ``replay``: the same calls end in another state or
    other results. ``random``: random calls pass, even with every answer. ``alone``: where the user holds tools, the agent passes
    without them, making every call itself.
    """
    answers = [turn.answer for turn in scenario.turns]
    plan = [ToolCall("", step["tool"], encode(step["arguments"])) for turn in scenario.turns for step in turn.calls]

    def passed(world: World, told: list[str]) -> bool:
        return passes(scenario.rubric, world.initial, world.look(), world.log, told)

    def run(world: World, call: ToolCall) -> None:
        world.run(call, "user" if call.name in scenario.held else "agent")

    with _begun(scenario) as world:
        if judge(scenario.rubric, world.initial, world.initial, [], []).total > 0:
            return "null"
        for call in plan:
            if passed(world, answers):
                return "prefix"
            run(world, call)
        if passed(world, []):
            return "prefix"
        if not passed(world, answers):
            return "oracle"
        end, log = world.rows(), world.log
    with _begun(scenario) as world:
        for call in plan:
            run(world, call)
        if world.rows() != end or world.log != log:
            return "replay"
    if scenario.held:
        with _begun(scenario) as world:
            for call in plan:
                world.run(call)
            if passed(world, answers):
                return "alone"
    with _begun(scenario) as world:
        rng = Random(f"random/{scenario.id}")
        for _ in range(RANDOM_CALLS):
            tool = rng.choice(scenario.tools)
            world.run(ToolCall("", tool.name, encode(random_arguments(tool, rng))))
        return "random" if passed(world, answers) else None


def _begun(scenario: Scenario) -> closing[World]:
    return closing(World(scenario.stages, scenario.names, 0, NO_FAULTS, scenario.held))
