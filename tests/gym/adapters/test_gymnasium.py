from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from openk2.agent import Budget, run_episode
from openk2.gym.adapters.config import GymnasiumConfig
from openk2.gym.adapters.gymnasium import GymnasiumEnv
from openk2.gym.adapters.reward import verdict
from openk2.gym.agents import DISHONEST, play
from openk2.schema import Env, Message, Sampling, ToolSpec, Trace

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def python(python_with: Callable[[str], str]) -> str:
    return python_with("gymnasium")


@pytest.fixture
def guessing(python: str) -> GymnasiumEnv:
    return GymnasiumEnv(
        GymnasiumConfig(
            id="Guessing-v0", file=HERE / "guessing.py", prompt="Play.", python=python, max_steps=8, step_s=1
        )
    )


def lake(python: str, **changes: Any) -> GymnasiumEnv:
    return GymnasiumEnv(
        GymnasiumConfig(
            id="FrozenLake-v1",
            options={"is_slippery": False},
            prompt="Walk from S to G over frozen F; H is a hole. You are in [ ]. Say left, down, right or up.",
            actions=("left", "down", "right", "up"),
            shows="render",
            python=python,
            **changes,
        )
    )


def said(env: GymnasiumEnv, *replies: str) -> Trace:
    task = env.tasks("train")[0]
    return asyncio.run(play(env, task, lambda task, shown, rng: [Message("assistant", reply) for reply in replies]))


class Bisecting:
    """Plays the guessing game right."""

    async def complete(self, messages: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling) -> Message:
        low, high, guess = 0, 63, 0
        for message in messages:
            if message.role == "assistant":
                guess = int(message.content)
            elif message.content == "higher.":
                low = guess + 1
            elif message.content == "lower.":
                high = guess - 1
        return Message("assistant", str((low + high) // 2))


def test_a_game_of_text_is_won_by_playing_it(guessing: GymnasiumEnv) -> None:
    assert isinstance(guessing, Env)
    for task in [*guessing.tasks("train")[:3], *guessing.tasks("heldout")[:3]]:
        trace = asyncio.run(run_episode(Bisecting(), guessing, task, seed=0, budget=Budget(turns=20)))
        assert trace.score is not None
        assert (trace.stop_reason, trace.score.total, trace.score.parts) == ("done", 1.0, {"ended": 1.0, "reward": 1.0})
        assert trace.messages[0].content == "Play.\n\nguess a number from 0 to 63."
        assert len({message.content for message in trace.messages}) > 2


def test_seeds_are_shared_by_no_two_splits(guessing: GymnasiumEnv) -> None:
    train, heldout = ({task.payload["seed"] for task in guessing.tasks(split)} for split in ("train", "heldout"))
    assert (len(train), len(heldout), train & heldout) == (100, 25, set())
    with pytest.raises(ValueError, match="nowhere"):
        guessing.tasks("nowhere")


@pytest.mark.parametrize("agent", DISHONEST)
def test_idle_and_dishonest_agents_earn_nothing(guessing: GymnasiumEnv, python: str, agent: str) -> None:
    for env in (guessing, lake(python)):
        trace = asyncio.run(play(env, env.tasks("train")[0], DISHONEST[agent]))
        assert trace.score is not None
        assert (trace.stop_reason, trace.score.total) == ("truncated", 0.0)


def test_numbered_actions_are_said_in_words(python: str) -> None:
    env = lake(python)
    trace = said(env, "I go down.", "down", "Right, I say.", "right", "down", "right")
    assert trace.score is not None
    assert (trace.stop_reason, trace.score.total) == ("done", 1.0)
    assert trace.messages[0].content.endswith("\n\n[S]FFF\nFHFH\nFFFH\nHFFG")
    assert said(env, "down", "right").score.parts == {"ended": 1.0, "reward": 0.0}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "reply", ["down or right", "", "upwards", "not down", "1", "down" * 50_000, "left, right, up, down"]
)
def test_what_names_no_single_action_is_said_so(python: str, reply: str) -> None:
    trace = said(lake(python, max_steps=1), reply)
    assert trace.messages[-1].content == "That is no action. Say one of: left, down, right, up."
    assert trace.stop_reason == "truncated"


def test_numbers_work_without_words(python: str) -> None:
    env = GymnasiumEnv(GymnasiumConfig(id="Blackjack-v1", prompt="0 stands, 1 draws.", python=python, max_steps=3))
    trace = said(env, "0")
    assert re.fullmatch(r"0 stands, 1 draws\.\n\n\d+, \d+, [01]", trace.messages[0].content)
    assert trace.stop_reason == "done"
    assert said(env, "2", "1 or 0", "0.5").messages[-1].content == "That is no action. Say a number from 0 to 1."


@pytest.mark.parametrize(("reply", "part"), [("hang", "hung"), ("fail", "raised"), ("die", "raised")])
def test_code_that_hangs_raises_or_dies_is_named_and_the_next_episode_goes_on(
    guessing: GymnasiumEnv, reply: str, part: str
) -> None:
    trace = said(guessing, reply)
    assert trace.score is not None
    assert (trace.stop_reason, trace.score.total, trace.score.parts) == ("truncated", 0.0, {part: 1.0})
    trace = asyncio.run(run_episode(Bisecting(), guessing, guessing.tasks("train")[1], seed=0))
    assert trace.score is not None
    assert trace.score.total == 1


def test_a_reward_that_is_no_number_earns_nothing(guessing: GymnasiumEnv) -> None:
    assert said(guessing, "nan").score.parts == {"ended": 1.0, "not_finite": 1.0}  # type: ignore[union-attr]


def test_actions_out_of_the_text_space_are_none(guessing: GymnasiumEnv) -> None:
    trace = said(guessing, "ÄÖÜ", "x" * 21, "5\x00")
    assert {message.content for message in trace.messages[2:7:2]} == {
        "That is no action. Say it in the form the game asks for."
    }


def test_what_cannot_be_said_in_text_is_refused_by_name(python: str) -> None:
    for id, wrong in (("CartPole-v1", "its observations are Box"), ("Boxed-v0", "its observations are Box")):
        env = GymnasiumEnv(GymnasiumConfig(id=id, file=HERE / "guessing.py", prompt="", python=python))
        assert wrong in said(env, "0").info["error"]
    env = GymnasiumEnv(GymnasiumConfig(id="FrozenLake-v1", prompt="", actions=("left", "right"), python=python))
    assert "FrozenLake-v1 has 4 numbered actions, but 2 words are set" in said(env, "left").info["error"]


def test_only_an_episode_that_ended_by_itself_passes() -> None:
    assert verdict([0.5, 0.5], "sum", 1.0, ended=True).total == 1
    assert verdict([0.5, 0.5], "last", 1.0, ended=True).total == 0
    assert verdict([0.5, 0.5], "sum", 1.0, ended=False).total == 0
    assert verdict([], "last", -1.0, ended=False).total == 0
    assert verdict([float("inf")], "sum", 1.0, ended=True).total == 0
