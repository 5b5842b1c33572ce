from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openk2.gym.adapters.config import VerifiersConfig
from openk2.gym.adapters.guest import GuestError
from openk2.gym.adapters.verifiers import Verifiers
from openk2.gym.agents import DISHONEST, play
from openk2.schema import Env, Message, Score, Task

TASKSETS = Path(__file__).parent / "tasksets"
pytestmark = pytest.mark.slow  # verifiers takes some seconds to import


@pytest.fixture(scope="session")
def python(python_with: Callable[[str], str]) -> str:
    return python_with("verifiers")


def sums(python: str, taskset: str = "sums_taskset", **changes: Any) -> Verifiers:
    return Verifiers(VerifiersConfig(taskset=taskset, folder=TASKSETS, python=python, score_s=3, **changes))


def replied(env: Verifiers, task: Task, reply: str) -> Score:
    trace = asyncio.run(play(env, task, lambda task, shown, rng: [Message("assistant", reply)]))
    assert trace.score is not None
    assert trace.stop_reason == "done", trace.info
    return trace.score


def test_its_own_rewards_decide(python: str) -> None:
    env = sums(python)
    assert isinstance(env, Env)
    tasks = [*env.tasks("train"), *env.tasks("heldout")]
    assert len(tasks) == 30
    assert env.tasks("heldout")
    for task in tasks[:5]:
        answer = str(int(task.payload["question"].split()[-3]) + 5)
        assert replied(env, task, answer) == Score(1.0, {"right": 0.75, "short": 0.25, "ended": 1.0, "reward": 1.0})
        assert replied(env, task, "no").total == 0
        for moves in DISHONEST.values():
            trace = asyncio.run(play(env, task, moves))
            assert trace.score is not None
            assert (trace.stop_reason, trace.score.total) == ("done", 0.0)
    shown = asyncio.run(env.reset(tasks[0], 0)).messages
    assert [message.role for message in shown] == ["system", "user"]


def test_the_threshold_is_the_recipes(python: str) -> None:
    env = sums(python, passes_at=0.25)
    assert replied(env, env.tasks("train")[0], "no").total == 1


def test_options_and_number_reach_the_taskset(python: str) -> None:
    env = sums(python, options={"first": 100}, num_tasks=4)
    tasks = [*env.tasks("train"), *env.tasks("heldout")]
    assert sorted(task.payload["question"].split()[-3] for task in tasks) == ["100", "101", "102", "103"]


def test_rewards_that_hang_or_raise_are_named_and_the_next_reply_is_scored(python: str) -> None:
    env = sums(python)
    task = env.tasks("train")[0]
    assert replied(env, task, "fail").parts == {"raised": 1.0}
    assert replied(env, task, "hang").parts == {"hung": 1.0}
    assert replied(env, task, str(int(task.payload["question"].split()[-3]) + 5)).total == 1


def test_what_needs_more_than_a_reply_is_refused(python: str) -> None:
    with pytest.raises(GuestError, match="BoxedTask's reward built needs a runtime"):
        sums(python, "boxed_taskset").tasks("train")
    env = sums(python, "nothing_here")
    for _ in range(2):
        with pytest.raises(GuestError, match="nothing_here"):
            env.tasks("train")
    with pytest.raises(ValueError, match="nowhere"):
        sums(python).tasks("nowhere")
