"""Scenarios behind the Env contract: who asks a user who acts goes on, who answers ends."""

from __future__ import annotations

import asyncio

from openk2.gym.scenario import ScenarioEnv
from openk2.schema import Message, ToolCall, Trace
from openk2.worlds.scenario.faults import NO_FAULTS
from openk2.worlds.scenario.hands import request
from openk2.worlds.scenario.synthesize import SynthesisConfig
from openk2.worlds.scenario.write import ScenarioConfig
from openk2.worlds.simulator import encode

CONFIG = SynthesisConfig(scenario=ScenarioConfig(share_user_acts=1.0), faults=NO_FAULTS)


def test_a_user_who_acts_is_asked_in_words() -> None:
    async def play() -> None:
        env = ScenarioEnv(CONFIG)
        task = next(task for task in env.tasks("train")[:20] if "user_acts" in task.tags)
        seen = await env.reset(task, 0)
        scenario = env.conversation.scenario
        assert not {tool.name for tool in seen.tools} & set(scenario.held)
        for turn in scenario.turns:
            for step in turn.calls:
                if step["tool"] in scenario.held:
                    seen = await env.step(Message("assistant", request(step)))
                    assert [message.role for message in seen.messages] == ["user"]
                    env.restore(env.snapshot())
                else:
                    call = ToolCall("functions.x:0", step["tool"], encode(step["arguments"]))
                    seen = await env.step(Message("assistant", "", [call]))
                assert not seen.terminated
            seen = await env.step(Message("assistant", turn.answer))
        assert seen.terminated
        assert (await env.score(Trace("", task.id, 0, "", [], [], []))).passed
        await env.close()

    asyncio.run(play())
