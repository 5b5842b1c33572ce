"""Environments are other people's code: each way to break has a name and costs its own episode only."""

from __future__ import annotations

import asyncio
import json
import math
import pickle
from collections import Counter
from typing import Any

import pytest

from openk2.agent import Budget, EnvFailedError, Episode, run_episode
from openk2.gym.agents import Scripted, null
from openk2.gym.catalogue import family
from openk2.gym.critic.judge import JudgeFailedError
from openk2.gym.math import ArithmeticEnv
from openk2.gym.tools import ToolEnv
from openk2.schema import Env, Message, Observation, Sampling, Score, Task, Trace
from openk2.worlds.config import WorldsConfig

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
        if self._how == "cancelled":
            raise asyncio.CancelledError
        return "nonsense"


def play(env: ArithmeticEnv) -> Trace:
    model = Scripted(null, TASK, None)  # type: ignore[arg-type]
    return asyncio.run(run_episode(model, env, TASK, seed=0, budget=Budget(env_seconds=0.2)))


@pytest.mark.parametrize("how", ["raised", "timed_out", "wrong_type", "cancelled"])
@pytest.mark.parametrize("where", ["reset", "step", "score", "close"])
def test_each_way_to_break_has_a_name(where: str, how: str) -> None:
    trace = play(Broken(where, how))
    assert (trace.stop_reason, trace.info["trouble"]) == ("env_error", "raised" if how == "cancelled" else how)
    assert trace.score == Score(0.0)
    told = {
        "raised": "OSError: the disk is gone",
        "timed_out": "no answer within 0.2 s",
        "wrong_type": "gave a str where",
        "cancelled": "it cancelled itself",
    }
    assert told[how] in trace.info["error"]


@pytest.mark.parametrize("total", [math.nan, math.inf, -0.5])
def test_a_score_outside_its_range_is_none(total: float) -> None:
    class Odd(ArithmeticEnv):
        async def score(self, trace: Trace) -> Score:
            score = await super().score(trace)
            score.total = total
            return score

    trace = play(Odd())
    assert (trace.info["trouble"], trace.score) == ("wrong_type", Score(0.0))
    assert "does not lie in [0, 1]" in trace.info["error"]
    assert Trace.from_json(json.loads(json.dumps(trace.to_json()))).score == trace.score


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


# ---------------------------------------------------------------------------------------------
# Pause and resumption
# ---------------------------------------------------------------------------------------------

TOOLS = family("tools")
TOOL_TASK = next(task for task in TOOLS.make().tasks("heldout") if task.kind == "transfer")


class SlowTools(ToolEnv):
    """Takes its time for a step."""

    def __init__(self) -> None:
        super().__init__(WorldsConfig(fault_rate=0))

    async def step(self, message: Message) -> Observation:
        await asyncio.sleep(0.05)
        return await super().step(message)


class SlowReplay(SlowTools):
    resumable = "replay"  # type: ignore[assignment]


class NoSnapshot(ToolEnv):
    def __init__(self) -> None:
        super().__init__(WorldsConfig(fault_rate=0))

    def snapshot(self) -> bytes:
        raise OSError("the service is gone")


def an_episode(env: Env) -> Episode:
    observation = asyncio.run(TOOLS.make().reset(TOOL_TASK, 0))
    return Episode(Scripted(TOOLS.gold, TOOL_TASK, observation), env, TOOL_TASK, 0, Sampling(), Budget())


def resumed(paused: dict[str, Any], episode: Episode, env: Env) -> Trace:
    """The rest of the episode, from JSON, by the same agent."""
    again = json.loads(json.dumps(paused))
    return asyncio.run(Episode.resume(again, episode.model, env, sampling=Sampling(), budget=Budget()).play())


@pytest.mark.parametrize(("env", "turns"), [(SlowTools, 0), (SlowTools, 1), (SlowReplay, 0), (SlowReplay, 1)])
def test_between_turns_an_episode_can_go_elsewhere(env: type[ToolEnv], turns: int) -> None:
    whole = asyncio.run(an_episode(env()).play())
    episode = an_episode(env())

    async def some() -> None:
        await episode.begin()
        for _ in range(turns):
            await episode.turn()

    asyncio.run(some())
    paused = episode.pause()
    assert paused is not None
    trace = resumed(paused, episode, env())
    assert trace.score == whole.score == Score(1.0, whole.score.parts)
    assert trace.messages == whole.messages


def test_an_episode_that_has_not_begun_can_go_elsewhere() -> None:
    episode = an_episode(SlowTools())
    paused = episode.pause()
    assert paused is not None
    assert resumed(paused, episode, SlowTools()).score.passed  # type: ignore[union-attr]


@pytest.mark.parametrize(("env", "comes"), [(SlowTools, False), (SlowReplay, True)])
def test_in_the_middle_of_a_step_replay_alone_can_bring_it_along(env: type[ToolEnv], comes: bool) -> None:
    """A snapshot would hold half a step, or none of it: nobody knows."""
    episode = an_episode(env())
    told: list[dict[str, Any] | None] = []

    async def cut() -> None:
        playing = asyncio.create_task(episode.play())
        while not episode.num_turns:
            await asyncio.sleep(0.001)
        told.append(episode.pause())
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)

    asyncio.run(cut())
    assert (told[0] is not None) == comes
    if told[0] is not None:
        assert resumed(told[0], episode, env()).score.passed  # type: ignore[union-attr]


def test_a_snapshot_that_fails_leaves_the_episode_here() -> None:
    episode = an_episode(NoSnapshot())
    asyncio.run(episode.begin())
    assert episode.pause() is None
    assert episode.trace.info["unpausable"] == "OSError: the service is gone"
    assert asyncio.run(episode.play()).score.passed  # type: ignore[union-attr]


class Counted(ArithmeticEnv):
    """Knows how many replies it was given; takes long to score."""

    resumable = "replay"

    def __init__(self) -> None:
        super().__init__()
        self.given = 0

    async def step(self, message: Message) -> Observation:
        self.given += 1
        return await super().step(message)


@pytest.mark.parametrize("cut", [True, False])
def test_a_reply_that_was_cut_is_not_given_when_it_is_played_again(cut: bool) -> None:
    env = Counted()
    episode = Episode(Scripted(null, TASK, Observation([], [])), env, TASK, 0, Sampling(), Budget())

    async def some() -> None:
        await episode.begin()
        if cut:  # as by a token budget: no environment hears of it
            episode.trace.messages.append(Message("assistant", "12"))
            episode.trace.stop_reason, episode._cut = "token_budget", True
        else:
            await episode.turn()

    asyncio.run(some())
    again = Counted()
    assert resumed(episode.pause(), episode, again).stop_reason == episode.trace.stop_reason
    assert again.given == env.given == (not cut)


class Unclosed(ArithmeticEnv):
    async def close(self) -> None:
        raise OSError("cannot be closed")


class Failing:
    async def complete(self, messages: Any, tools: Any, sampling: Any) -> Message:
        raise MemoryError("the engine is out of memory")


def test_what_fails_beside_the_environment_is_not_hidden_by_it() -> None:
    with pytest.raises(MemoryError, match="out of memory"):
        asyncio.run(run_episode(Failing(), Unclosed(), TASK, seed=0))
    assert play(Unclosed()).info["trouble"] == "raised"


@pytest.mark.parametrize("error", [EnvFailedError("timed_out", "late"), JudgeFailedError("unreadable", "what?")])
def test_failures_travel_between_processes(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(again), again.args, str(again)) == (type(error), error.args, str(error))


class Elsewhere(ArithmeticEnv):
    async def step(self, message: Message) -> Observation:
        raise EnvFailedError("wrong_type", "it gave a str")


class Late(ArithmeticEnv):
    async def step(self, message: Message) -> Observation:
        raise TimeoutError("http://127.0.0.1:8100 gave no answer within 3 s")


def test_an_environment_elsewhere_says_itself_how_it_broke() -> None:
    assert play(Elsewhere()).info["trouble"] == "wrong_type"
    assert play(Late()).info == play(Late()).info | {
        "trouble": "timed_out",
        "error": "http://127.0.0.1:8100 gave no answer within 3 s",
    }
