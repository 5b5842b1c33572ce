"""An episode at a service is the episode played here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random

import pytest

from openk2.agent import Budget, EnvFailedError, Episode, run_episode
from openk2.gym import catalogue
from openk2.gym.agents import Scripted, play
from openk2.gym.service.env import ServiceEnv
from openk2.schema import Env, Message, Sampling, Score, Segment, Task, ToolCall, Trace
from tests.gym.service.process import Process, serving

CHEAP = ("math", "logic", "tools", "puzzles", "tables", "instructions", "safety")
NUM_TASKS = 3
BUDGET = Budget(turns=20)


@pytest.fixture(scope="module")
def service() -> Iterator[Process]:
    with serving(*CHEAP, "counting") as process:
        yield process


@pytest.mark.parametrize("name", CHEAP)
def test_an_episode_is_the_same_as_in_process(service: Process, name: str) -> None:
    family = catalogue.family(name)

    async def both() -> None:
        here, there = family.make(), ServiceEnv(service.url, name)
        assert there.resumable == here.resumable
        tasks = there.tasks("train")[:NUM_TASKS]
        for moves in (family.gold, family.guess):
            for task in tasks:
                expected, got = await play(here, task, moves), await play(there, task, moves)
                assert got.to_json() == expected.to_json()
                assert got.score is not None

    asyncio.run(both())


@pytest.mark.parametrize("name", ["math", "tools"])
def test_tasks_are_those_of_the_family(service: Process, name: str) -> None:
    here, there = catalogue.family(name).make().tasks("heldout"), ServiceEnv(service.url, name).tasks("heldout")
    assert len(there) == len(here)
    assert [task.to_json() for task in there[15:60]] == [task.to_json() for task in here[15:60]]
    assert there[-1].to_json() == here[-1].to_json()
    with pytest.raises(IndexError):
        there[len(here)]


def test_an_unknown_split_or_family_is_refused(service: Process) -> None:
    with pytest.raises(ValueError, match="no split"):
        ServiceEnv(service.url, "math").tasks("no/where")
    with pytest.raises(ValueError, match="no family 'maths' here; there are math, logic"):
        ServiceEnv(service.url, "maths").tasks("train")
    with pytest.raises(ValueError, match="no family 'maths'; it has math"):
        _ = ServiceEnv(service.url, "maths").resumable
    with pytest.raises(ValueError, match="address is like http:"):
        ServiceEnv("127.0.0.1:8100", "math")


def test_it_is_an_environment(service: Process) -> None:
    assert isinstance(ServiceEnv(service.url, "counting"), Env)


async def at(service: Process, seed: int = 0) -> ServiceEnv:
    env = ServiceEnv(service.url, "counting")
    observation = await env.reset(Task("count-7", "counting", "count", "train", {"to": 7}), seed)
    assert observation.messages == [Message("user", f"count 7 {seed}")]
    return env


def test_a_message_travels_whole(service: Process) -> None:
    async def go() -> None:
        env = await at(service)
        for text in ("", "\ud800 lone", "null \0", "é" * 100_000, '"\\'):
            observation = await env.step(Message("assistant", text, [ToolCall("x", "\udfff", "{", None)]))
            assert observation.messages[0].content.partition(" ")[2] == text
            assert [tool.name for tool in observation.tools] == ["count"]
        await env.close()

    asyncio.run(go())


def test_tokens_stay_at_home(service: Process) -> None:
    async def go() -> Score:
        env = await at(service)
        messages = [Message("user", "hello")] * 3
        score = await env.score(Trace("t", "7", 0, "", [Segment("prompt", [1, 2], [False, False])], messages, []))
        await env.close()
        return score

    assert asyncio.run(go()).parts == {"messages": 3.0, "tokens": 0.0}


def test_out_of_turn_it_says_what_comes_first(service: Process) -> None:
    env = ServiceEnv(service.url, "counting")
    with pytest.raises(ValueError, match="call reset first"):
        asyncio.run(env.step(Message("assistant", "a")))
    with pytest.raises(ValueError, match="call reset first"):
        env.snapshot()
    with pytest.raises(ValueError, match="resumable by 'replay'"):
        ServiceEnv(service.url, "math").snapshot()


def test_a_bad_snapshot_is_told_by_the_next_call(service: Process) -> None:
    env = ServiceEnv(service.url, "counting")
    env.restore(b"not one")
    with pytest.raises(EnvFailedError, match="JSONDecodeError"):
        asyncio.run(env.step(Message("assistant", "a")))


def test_a_paused_episode_goes_on_at_another_service(service: Process) -> None:
    """One of each family with snapshots, paused after its first turn, scores as if nothing had happened."""

    def model(name: str, task: Task) -> Scripted:
        return Scripted(catalogue.family(name).gold, task, Random(0))

    async def go(name: str, other: Process) -> None:
        env = ServiceEnv(service.url, name)
        tasks = [
            task for task in env.tasks("train")[:20] if len(task.payload.get("plan", task.payload.get("turns", ()))) > 1
        ]
        task = tasks[0]
        expected = await run_episode(model(name, task), catalogue.family(name).make(), task, seed=0)
        acting = model(name, task)
        episode = Episode(acting, env, task, 0, Sampling(), BUDGET)
        await episode.begin()
        await episode.turn()
        paused = episode.pause()
        await env.close()
        there = ServiceEnv(other.url, name)
        resumed = Episode.resume(paused, acting, there, sampling=Sampling(), budget=BUDGET)
        trace = await resumed.play()
        assert trace.to_json() == expected.to_json()

    with serving("tools", "safety") as other:
        for name in ("tools", "safety"):
            asyncio.run(go(name, other))


def test_five_hundred_episodes_at_once(service: Process) -> None:
    async def one(number: int) -> list[str]:
        env = await at(service, number)
        said = [(await env.step(Message("assistant", str(number)))).messages[0].content for _ in range(3)]
        said.append(str((await env.score(Trace("t", "", 0, "", [], [], []))).total))
        return said

    async def go() -> list[list[str]]:
        return await asyncio.gather(*(one(number) for number in range(500)))

    alive = service.health()["alive"]
    played = asyncio.run(go())
    assert service.health()["alive"] == alive + 500
    assert played == [[f"1 {n}", f"2 {n}", f"3 {n}", "0.3"] for n in range(500)]
