from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from random import Random

import pytest

from openk2.gym.adapters.config import ReasoningGymConfig
from openk2.gym.adapters.reasoning_gym import FORMS, REFUSED, gold, reasoning_gym
from openk2.gym.agents import DISHONEST, play
from openk2.schema import Env, Message, Observation, Score, Task

# By its own scoring, by the answer itself, by a form and then its own.
KINDS = ("chain_sum", "gsm_symbolic", "simple_integration", "countdown", "fraction_simplification")


@pytest.fixture(scope="session")
def python(python_with: Callable[[str], str]) -> str:
    return python_with("reasoning_gym")


def replied(env: Env, task: Task, reply: str) -> Score:
    trace = asyncio.run(play(env, task, lambda task, shown, rng: [Message("assistant", reply)]))
    assert trace.score is not None
    assert trace.stop_reason == "done", trace.info
    return trace.score


@pytest.mark.parametrize("dataset", KINDS)
def test_gold_earns_all_and_the_idle_and_dishonest_nothing(python: str, dataset: str) -> None:
    env = reasoning_gym(ReasoningGymConfig(dataset=dataset, size=20, python=python))
    tasks = [*env.tasks("train"), *env.tasks("heldout")]
    assert isinstance(env, Env)
    assert 15 < len(tasks) == len({task.payload["question"] for task in tasks}) <= 20
    for task in tasks[:5]:
        assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task
        (reply,) = gold(task, Observation([], []), Random(0))
        assert replied(env, task, reply.content).total == 1, task.payload
        for moves in DISHONEST.values():
            trace = asyncio.run(play(env, task, moves))
            assert trace.score is not None
            assert trace.score.total == 0


@pytest.mark.parametrize("dataset", KINDS)
def test_hedges_earn_nothing(python: str, dataset: str) -> None:
    env = reasoning_gym(ReasoningGymConfig(dataset=dataset, size=20, python=python))
    for task in env.tasks("train")[:5]:
        own = task.payload["answer"]
        inside = (f"{own} or 17", f"17 or {own}", f"{own}, 17", f"{own}\n17", f"not {own}", "")
        for reply in (
            *(f"<answer>{text}</answer>" for text in inside),
            f"<answer>{own}</answer><answer>17</answer>",
            own,
            f"<answer>{own}",
        ):
            assert replied(env, task, reply).total == 0, reply


def test_a_reply_is_not_run_as_a_program(python: str) -> None:
    assert FORMS["simple_integration"].fullmatch("-6*x**3 + 2*sin(x)/3 + exp(x) + C")
    for dataset in ("simple_integration", "countdown", "string_insertion", "spiral_matrix", "n_queens"):
        env = reasoning_gym(ReasoningGymConfig(dataset=dataset, size=2, python=python))
        task = [*env.tasks("train"), *env.tasks("heldout")][0]
        for program in ("__import__('os')._exit(0)", "[exec('import os; os._exit(0)')]", "open('x')", "x.diff"):
            assert replied(env, task, f"<answer>{program}</answer>").parts == {"answered": 1.0, "correct": 0.0}


def test_an_integral_is_not_its_own_solution(python: str) -> None:
    env = reasoning_gym(ReasoningGymConfig(dataset="intermediate_integration", size=30, python=python))
    tasks = [*env.tasks("train"), *env.tasks("heldout")]
    assert 15 < len(tasks) < 30
    assert not any("Integral" in task.payload["answer"] for task in tasks)
    assert replied(env, tasks[0], "<answer>Integral(x*cos(x), x) + C</answer>").total == 0


def test_scoring_that_hangs_or_raises_is_named_and_earns_nothing(python: str) -> None:
    env = reasoning_gym(ReasoningGymConfig(dataset="simple_integration", size=2, python=python, score_s=1))
    task = [*env.tasks("train"), *env.tasks("heldout")][0]
    (reply,) = gold(task, Observation([], []), Random(0))
    assert replied(env, task, reply.content).total == 1
    assert replied(env, task, "<answer>9**9**9**9*x</answer>").parts == {"answered": 1.0, "correct": 0.0, "hung": 1.0}
    assert replied(env, task, reply.content).total == 1
    env = reasoning_gym(ReasoningGymConfig(dataset="prime_factorization", size=2, python=python))
    task = [*env.tasks("train"), *env.tasks("heldout")][0]
    assert replied(env, task, "<answer>two × three</answer>").parts == {"answered": 1.0, "correct": 0.0, "raised": 1.0}


def test_a_task_of_another_version_is_not_scored(python: str) -> None:
    env = reasoning_gym(ReasoningGymConfig(dataset="chain_sum", size=2, python=python))
    task = [*env.tasks("train"), *env.tasks("heldout")][0]
    changed = Task.from_json({**task.to_json(), "payload": {**task.payload, "question": "What is 1 + 1?"}})
    (reply,) = gold(task, Observation([], []), Random(0))
    assert replied(env, changed, reply.content).parts["raised"] == 1


def test_options_reach_the_dataset(python: str) -> None:
    env = reasoning_gym(
        ReasoningGymConfig(dataset="chain_sum", size=4, python=python, options={"min_terms": 9, "max_terms": 9})
    )
    assert all(
        task.payload["question"].count("+") + task.payload["question"].count(" - ") >= 8 for task in env.tasks("train")
    )


@pytest.mark.parametrize("dataset", REFUSED)
def test_what_gives_no_verifiable_reward_is_refused_with_the_reason(dataset: str) -> None:
    with pytest.raises(ValueError, match=f'"{dataset}" is refused: it'):
        reasoning_gym(ReasoningGymConfig(dataset=dataset))


def test_unknown_names_are_refused(python: str) -> None:
    with pytest.raises(ValueError, match='no dataset "chain_sums"'):
        reasoning_gym(ReasoningGymConfig(dataset="chain_sums", python=python)).tasks("train")
    with pytest.raises(ValueError, match='no split "test"'):
        reasoning_gym(ReasoningGymConfig(dataset="chain_sum", python=python)).tasks("test")
