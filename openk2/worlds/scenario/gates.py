"""Gates for scenarios: kept when the plan passes and whoever does less, nothing, or anything, fails."""

from __future__ import annotations

from contextlib import closing
from random import Random

from openk2.schema import ToolCall
from openk2.worlds.gates import random_arguments
from openk2.worlds.judge import judge, passes
from openk2.worlds.scenario.conversation import Conversation, Scenario
from openk2.worlds.scenario.faults import NO_FAULTS
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
    with closing(Conversation(scenario, 0, NO_FAULTS)) as played:
        world = played.world

        def passed(told: list[str]) -> bool:
            return passes(scenario.rubric, world.initial, world.look(), world.log, told)

        def run(call: ToolCall) -> None:
            world.run(call, "user" if call.name in scenario.held else "agent")

        start = world.snapshot()
        if judge(scenario.rubric, world.initial, world.initial, [], []).total > 0:
            return "null"
        for call in plan:
            if passed(answers):
                return "prefix"
            run(call)
        if passed([]):
            return "prefix"
        if not passed(answers):
            return "oracle"
        end, log = world.rows(), world.log
        world.restore(start)
        for call in plan:
            run(call)
        if world.rows() != end or world.log != log:
            return "replay"
        if scenario.held:
            world.restore(start)
            for call in plan:
                world.run(call)
            if passed(answers):
                return "alone"
        world.restore(start)
        rng = Random(f"random/{scenario.id}")
        for _ in range(RANDOM_CALLS):
            tool = rng.choice(scenario.tools)
            world.run(ToolCall("", tool.name, encode(random_arguments(tool, rng))))
        return "random" if passed(answers) else None
