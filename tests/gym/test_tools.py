import asyncio

import pytest

from openk2.agent import Budget, run_episode
from openk2.gym.tools import ToolEnv
from openk2.schema import Env, Message, Sampling, ToolCall
from openk2.worlds.config import SPLITS, WorldsConfig
from openk2.worlds.teacher import ScriptedTeacher

CONFIG = WorldsConfig(fault_rate=0.2)


class Quiet:
    """Says one thing, whatever is asked."""

    def __init__(self, answer):
        self.answer = answer

    async def complete(self, messages, tools, sampling):
        return Message("assistant", self.answer)


class Looping:
    async def complete(self, messages, tools, sampling):
        return Message("assistant", "K-1", [ToolCall("functions.nothing:0", "nothing", "{}")])


def test_it_is_an_env_and_knows_its_splits():
    env = ToolEnv(CONFIG)
    assert isinstance(env, Env)
    assert [len(env.tasks(split)) for split in SPLITS] == [CONFIG.num_tasks(split) for split in SPLITS]
    with pytest.raises(ValueError, match="no split"):
        env.tasks("test")


def test_silence_babble_and_endless_calls_score_nothing():
    env = ToolEnv(CONFIG)
    for split in SPLITS:
        for task in env.tasks(split)[:20]:
            for model in (Quiet(""), Quiet("Done."), Quiet(task.payload["request"]), Looping()):
                trace = asyncio.run(run_episode(model, env, task, seed=0, budget=Budget(turns=4)))
                assert trace.score.total == 0, (task.to_json(), trace.messages)


def test_one_env_plays_task_after_task():
    env = ToolEnv(CONFIG)
    for task in env.tasks("undemonstrated")[:30]:
        trace = asyncio.run(run_episode(ScriptedTeacher(task, seed=0), env, task, seed=3))
        assert trace.score.passed
        assert trace.stop_reason == "done"


async def act(env, teacher, messages):
    """One turn: what the env answers, with ``messages`` grown by it."""
    message = await teacher.complete(messages, [], Sampling())
    observation = await env.step(message)
    messages += [message, *observation.messages]
    return observation


def test_an_episode_goes_on_from_a_snapshot_in_another_env():
    async def play(task, pause):
        env, teacher = ToolEnv(CONFIG), ScriptedTeacher(task, seed=0)
        messages = (await env.reset(task, 5)).messages
        while not (await act(env, teacher, messages)).terminated:
            if pause:
                state = env.snapshot()
                await env.close()
                env = ToolEnv(CONFIG)
                env.restore(state)
        hash_, score = env.world.state_hash(), await env.score(None)
        await env.close()
        return messages, hash_, score

    for task in ToolEnv(CONFIG).tasks("train")[:25]:
        assert asyncio.run(play(task, True)) == asyncio.run(play(task, False))
