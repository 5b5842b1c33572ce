"""The episode of one question: protocol, determinism, splits, and what idle or dishonest agents get."""

from __future__ import annotations

import asyncio
import pathlib
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from pydantic import ValidationError

from openk2.gym.config import ArithmeticConfig, LogicConfig
from openk2.gym.logic import LogicEnv
from openk2.gym.math import ArithmeticEnv
from openk2.gym.single_turn import SingleTurnEnv
from openk2.schema import Env, Message, Score, Task, ToolCall, Trace

NUM_TASKS = 3000  # 5 kinds: at least 500 each
ENVS = {
    "math": ArithmeticEnv(ArithmeticConfig(num_train=NUM_TASKS)),
    "logic": LogicEnv(LogicConfig(num_train=NUM_TASKS)),
}
CLAIMS = (
    "Done!",
    "I solved it, the answer is correct.",
    "Task completed successfully.",
    "I am 100% sure. It is right.",
)
Agent = Callable[[Task, random.Random], str]


async def play(env: SingleTurnEnv, task: Task, reply: Message | None, seed: int = 0) -> Score:
    observation = await env.reset(task, seed)
    assert [message.role for message in observation.messages] == ["user"]
    assert not observation.terminated
    if reply is not None:
        assert (await env.step(reply)).terminated
    score = await env.score(Trace("t", task.id, seed, "", [], [], []))
    await env.close()
    return score


def rates(family: str, agent: Agent) -> dict[str, float]:
    """Share of right answers per kind."""
    env, rng = ENVS[family], random.Random(0)
    passed: Counter[str] = Counter()

    async def all_tasks() -> None:
        for task in env.tasks("train"):
            passed[task.kind] += (await play(env, task, Message("assistant", agent(task, rng)))).passed

    asyncio.run(all_tasks())
    counts = Counter(task.kind for task in env.tasks("train"))
    assert min(counts.values()) >= 500
    return {kind: passed[kind] / count for kind, count in counts.items()}


def answer_lists(tasks: Sequence[Task]) -> dict[str, list[str]]:
    answers: dict[str, list[str]] = {}
    for task in tasks:
        answers.setdefault(task.kind, []).append(task.payload["answer"])
    return answers


@pytest.mark.parametrize("family", ENVS)
def test_the_oracle_passes_everything(family: str) -> None:
    assert set(rates(family, lambda task, rng: f"The answer is {task.payload['answer']}.").values()) == {1.0}


@pytest.mark.parametrize("family", ENVS)
@pytest.mark.parametrize(
    "agent",
    [
        lambda task, rng: "",
        lambda task, rng: task.payload["question"],
        lambda task, rng: f"The answer is {task.payload['question']}",
        lambda task, rng: rng.choice(CLAIMS),
        lambda task, rng: ", ".join(task.payload["options"] or map(str, range(100))),
    ],
    ids=["null", "echo", "echo as answer", "claim", "list all"],
)
def test_idle_and_dishonest_agents_get_nothing(family: str, agent: Agent) -> None:
    assert set(rates(family, agent).values()) == {0.0}


@pytest.mark.parametrize("family", ENVS)
def test_chance_is_low(family: str) -> None:
    """A random agent that knows what may be an answer, and one that always says the commonest answer."""
    answers = answer_lists(ENVS[family].tasks("train"))
    support = {kind: sorted(set(values)) for kind, values in answers.items()}
    common = {kind: Counter(values).most_common(1)[0][0] for kind, values in answers.items()}
    guessed = rates(family, lambda task, rng: rng.choice(task.payload["options"] or support[task.kind]))
    constant = rates(family, lambda task, rng: common[task.kind])
    print(family, "random", guessed, "constant", constant)
    assert max(guessed.values()) <= 0.20
    assert max(constant.values()) <= 0.10
    if family == "logic":
        expected = [
            1 / len(task.payload["options"]) for task in ENVS["logic"].tasks("train") if task.payload["options"]
        ]
        assert max(expected) <= 1 / 6


@pytest.mark.parametrize("family", ENVS)
def test_no_reply_and_tool_calls_are_no_answer(family: str) -> None:
    env = ENVS[family]
    task = env.tasks("train")[0]
    calling = Message("assistant", task.payload["answer"], [ToolCall("functions.f:0", "f", "{}")])
    for reply in (None, calling):
        assert asyncio.run(play(env, task, reply)) == Score(0.0, {"answered": 0.0, "correct": 0.0})
    wrong = asyncio.run(play(env, task, Message("assistant", "31415")))
    assert wrong.total == 0.0
    assert wrong.parts["correct"] == 0.0


@pytest.mark.parametrize("family", ENVS)
def test_replay_gives_the_same_episode_under_any_seed(family: str) -> None:
    env = ENVS[family]
    assert isinstance(env, Env)
    assert env.resumable == "replay"
    for task in env.tasks("train")[:20]:
        first = asyncio.run(env.reset(task, 1))
        assert asyncio.run(env.reset(Task.from_json(task.to_json()), 2)) == first
    with pytest.raises(ValueError, match="replay"):
        env.snapshot()
    with pytest.raises(ValueError, match="replay"):
        env.restore(b"")


def test_tasks_are_fixed_by_the_config_and_differ_by_seed() -> None:
    def ids(seed: int) -> list[str]:
        return [task.id for task in ArithmeticEnv(ArithmeticConfig(num_train=200, seed=seed)).tasks("train")]

    assert ids(0) == ids(0)
    assert ids(0) != ids(1)
    assert len(set(ids(0))) == 200


def test_kinds_and_levels_share_equally() -> None:
    for split in ("train", "heldout"):
        tasks = LogicEnv(LogicConfig(num_train=300, num_heldout=150)).tasks(split)
        assert set(Counter((task.kind, task.difficulty) for task in tasks).values()) == {len(tasks) // 15}
        assert {task.difficulty for task in tasks} == {0.0, 0.5, 1.0}
        assert {task.split for task in tasks} == {split}


def test_a_kind_that_runs_out_leaves_its_turns_and_too_much_is_refused() -> None:
    env = ArithmeticEnv(ArithmeticConfig(kinds=("sum", "story"), levels=(1,), num_train=800, num_heldout=100_000))
    counts = Counter(task.kind for task in env.tasks("train"))
    assert counts.total() == 800
    assert 200 < counts["sum"] < counts["story"]
    small = ArithmeticEnv(ArithmeticConfig(kinds=("sum",), levels=(1,), num_train=1000))
    with pytest.raises(ValueError, match=r"math has \d+ different train questions of kinds sum .* ask for fewer"):
        small.tasks("train")


def test_bad_use_is_refused() -> None:
    env = ArithmeticEnv()
    with pytest.raises(ValueError, match='no split "test"'):
        env.tasks("test")
    with pytest.raises(ValueError, match='family "logic"'):
        asyncio.run(env.reset(ENVS["logic"].tasks("train")[0], 0))
    with pytest.raises(ValueError, match="call reset first"):
        asyncio.run(env.step(Message("assistant", "1")))
    with pytest.raises(ValueError, match="call reset first"):
        asyncio.run(env.score(Trace("t", "x", 0, "", [], [], [])))
    with pytest.raises(ValidationError):
        ArithmeticConfig.model_validate({"kinds": ["sums"]})
    with pytest.raises(ValidationError):
        LogicConfig.model_validate({"levels": [4]})
    with pytest.raises(ValidationError):
        LogicConfig.model_validate({"levles": [1]})


def test_the_examples_of_the_page_run() -> None:
    page = pathlib.Path(__file__).parents[2] / "docs" / "gym.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, str(page), "exec"), {"__name__": "page"})
