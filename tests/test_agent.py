"""Environments are other people's code: each way to break has a name and costs its own episode only."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from openk2.agent import Budget, run_episode
from openk2.gym.agents import Scripted, null
from openk2.gym.math import ArithmeticEnv
from openk2.schema import Message, Observation, Score, Task, Trace

TASK = ArithmeticEnv().tasks("heldout")[0]


class Broken(ArithmeticEnv):
    """Breaks in one of its methods, in one way."""

    def __init__(self, where: str, how: str) -> None:
        super().__init__()
        self._where, self._how = where, how

    async def reset(self, task: Task, seed: int) -> Observation:
        return await self._maybe("reset", await super().reset(task, seed))

    async def step(self, message: Message) -> Observation:
        return await self._maybe("step", await super().step(message))

    async def score(self, trace: Trace) -> Score:
        return await self._maybe("score", await super().score(trace))

    async def close(self) -> None:
        return await self._maybe("close", await super().close())

    async def _maybe(self, where: str, right: Any) -> Any:
        if where != self._where:
            return right
        if self._how == "raised":
            raise OSError("the disk is gone")
        if self._how == "timed_out":
            await asyncio.sleep(60)
        return "nonsense"


def play(env: ArithmeticEnv) -> Trace:
    model = Scripted(null, TASK, None)  # type: ignore[arg-type]
    return asyncio.run(run_episode(model, env, TASK, seed=0, budget=Budget(env_seconds=0.2)))


@pytest.mark.parametrize("how", ["raised", "timed_out", "wrong_type"])
@pytest.mark.parametrize("where", ["reset", "step", "score", "close"])
def test_each_way_to_break_has_a_name(where: str, how: str) -> None:
    trace = play(Broken(where, how))
    assert (trace.stop_reason, trace.info["trouble"]) == ("env_error", how)
    assert trace.score == Score(0.0)
    told = {
        "raised": "OSError: the disk is gone",
        "timed_out": "no answer within 0.2 s",
        "wrong_type": "gave a str where",
    }
    assert told[how] in trace.info["error"]


@pytest.mark.parametrize(
    ("observation", "told"),
    [
        (Observation(["hello"], []), "gave messages that are none"),  # type: ignore[list-item]
        (Observation([], [{"name": "f"}]), "gave tools that are none"),  # type: ignore[list-item]
    ],
)
def test_what_is_inside_is_looked_at_too(observation: Observation, told: str) -> None:
    class Odd(ArithmeticEnv):
        async def reset(self, task: Task, seed: int) -> Observation:
            return observation

    trace = play(Odd())
    assert (trace.info["trouble"], trace.info["error"]) == ("wrong_type", told)


def test_the_others_go_on() -> None:
    async def all_of_them() -> list[Trace]:
        envs = [Broken("step", how) for how in ("raised", "timed_out", "none")] + [ArithmeticEnv()]
        return await asyncio.gather(
            *(
                run_episode(Scripted(null, TASK, None), env, TASK, seed=0, budget=Budget(env_seconds=0.2))  # type: ignore[arg-type]
                for env in envs
            )
        )

    traces = asyncio.run(all_of_them())
    assert Counter(trace.info.get("trouble", "") for trace in traces) == {
        "raised": 1,
        "timed_out": 1,
        "wrong_type": 1,
        "": 1,
    }
    assert traces[-1].stop_reason == "done"
