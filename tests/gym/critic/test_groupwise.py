"""Judges behind a real HTTP endpoint: rankings read, order drawn, and what comes of an endpoint that fails."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from fastapi import Response
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.gym.critic.config import CriticConfig
from openk2.gym.critic.groupwise import GroupwiseJudge
from openk2.gym.critic.judge import JudgeFailedError
from openk2.gym.critic.pairwise import PairwiseCritic
from openk2.llm.config import EndpointConfig
from openk2.llm.endpoint import Endpoint
from openk2.schema import Task
from tests.llm.server import ChatServer, Failures

TASK = Task("t", "any", "any", "train", {"question": "Say a word."})
REPLIES = ["aa", "aaaa", "a", "bb", "aa"]
DATA = re.compile(r'<data name="(\w+)">\n(.*)\n</data>')


def shown(body: dict[str, Any]) -> dict[str, str]:
    """What a prompt quotes."""
    return {name: json.loads(value) for name, value in DATA.findall(body["messages"][1]["content"])}


def by_length(body: dict[str, Any]) -> str:
    """Ranks the replies, the longest first; equal lengths tie."""
    replies = {int(name): text for name, text in shown(body).items() if name != "question"}
    sizes = sorted({len(text) for text in replies.values()}, reverse=True)
    return json.dumps({"ranking": [[n for n, text in replies.items() if len(text) == size] for size in sizes]})


def patient(server: ChatServer, **changes: Any) -> EndpointConfig:
    quick = {"attempt_s": 0.5, "backoff_s": 0.01, "max_attempts": 3, "call_s": 5.0}
    return EndpointConfig(base_url=server.base_url, model="m", **{**quick, **changes})


def rewards(config: EndpointConfig, replies: Sequence[str], *, pairwise: bool = False, **knobs: Any) -> list[float]:
    async def once() -> list[float]:
        async with Endpoint(config) as endpoint:
            critic = CriticConfig(**knobs)
            judge = PairwiseCritic(endpoint, None, critic) if pairwise else GroupwiseJudge(endpoint, critic)
            return await judge.rewards(TASK, replies)

    return asyncio.run(once())


def test_a_ranking_becomes_the_share_of_the_others_that_are_worse() -> None:
    with ChatServer(by_length) as server:
        assert rewards(patient(server), REPLIES) == [0.5, 1.0, 0.0, 0.5, 0.5]
        assert rewards(patient(server), ["alone"]) == [0.5]
        assert rewards(patient(server), ["same", "same"]) == [0.5, 0.5]
        assert len(server.bodies) == 1
    (body,) = server.bodies
    assert body["temperature"] == 0
    assert shown(body)["question"] == "Say a word."
    assert "no praise" in body["messages"][0]["content"]


def test_one_that_goes_by_place_is_spread_by_the_seed() -> None:
    """An endpoint that ranks as shown: over seeds every reply is first now and then."""

    def as_shown(body: dict[str, Any]) -> str:
        return json.dumps({"ranking": [[number] for number in range(1, len(shown(body)))]})

    with ChatServer(as_shown) as server:
        found = [rewards(patient(server), ["a", "b", "c", "d"], seed=seed) for seed in range(24)]
        again = rewards(patient(server), ["d", "c", "b", "a"], seed=5)
    assert {reward.index(1.0) for reward in found} == {0, 1, 2, 3}
    assert again == found[5][::-1]


@pytest.mark.parametrize(
    "said",
    [
        "The second is best.", '{"ranking": [[1], [2]]}', '{"ranking": [[1, 2, 3], [3]]}', '{"ranking": [[1, 2, 4]]}',
        '{"ranking": [1, 2, 3]}', "{}", "", '{"ranking": [[true], [2], [3]]}', '{"ranking": [[1.5], [2], [3]]}',
    ],
)  # fmt: skip
def test_what_is_no_ranking_is_unreadable_after_repairs(said: str) -> None:
    with ChatServer(lambda _: said) as server, pytest.raises(JudgeFailedError, match="3 answers, the last: ") as failed:
        rewards(patient(server), ["a", "b", "c"])
    assert failed.value.reason == "unreadable"
    assert len(server.bodies) == 3


def test_a_wrong_ranking_is_repaired() -> None:
    def at_last(body: dict[str, Any]) -> str:
        return by_length(body) if len(body["messages"]) > 2 else "aaaa is best"

    with ChatServer(at_last) as server:
        assert rewards(patient(server), REPLIES) == [0.5, 1.0, 0.0, 0.5, 0.5]


@pytest.mark.parametrize("pairwise", [False, True])
@pytest.mark.parametrize("kind", ["unavailable", "rate_limited", "timed_out", "cut", "bad_body"])
def test_an_endpoint_that_keeps_failing_is_unavailable(kind: str, pairwise: bool) -> None:
    failures = Failures(1.0, kinds=(kind,), hang_s=0.6, retry_after_s=0.01)
    with ChatServer(by_length, failures) as server, pytest.raises(JudgeFailedError) as failed:
        rewards(patient(server, max_attempts=2, attempt_s=0.3), ["a", "b"], pairwise=pairwise)
    assert failed.value.reason == "unavailable"
    assert f"every attempt failed (2 {kind}" in failed.value.told


@pytest.mark.parametrize("pairwise", [False, True])
def test_an_endpoint_that_is_gone_is_unavailable(pairwise: bool) -> None:
    with ChatServer(by_length) as server:
        config = patient(server)
    with pytest.raises(JudgeFailedError) as failed:
        rewards(config, ["a", "b"], pairwise=pairwise)
    assert failed.value.reason == "unavailable"


@pytest.mark.parametrize("pairwise", [False, True])
def test_an_endpoint_that_hangs_runs_out_of_the_groups_time(pairwise: bool) -> None:
    failures = Failures(1.0, kinds=("timed_out",), hang_s=1.5)
    with ChatServer(by_length, failures) as server, pytest.raises(JudgeFailedError) as failed:
        rewards(patient(server, attempt_s=30.0), ["a", "b"], pairwise=pairwise, group_s=0.2)
    assert failed.value.reason == "timed_out"


def test_the_clients_own_limit_is_a_time_out_too() -> None:
    failures = Failures(1.0, kinds=("timed_out",), hang_s=1.5)
    with ChatServer(by_length, failures) as server, pytest.raises(JudgeFailedError) as failed:
        rewards(patient(server, attempt_s=30.0, call_s=0.2), ["a", "b"])
    assert failed.value.reason == "timed_out"


def test_a_refusal_is_unavailable_and_not_asked_again() -> None:
    with (
        ChatServer(lambda _: Response("{}", 401)) as server,
        pytest.raises(JudgeFailedError, match="refused") as failed,
    ):
        rewards(patient(server), ["a", "b"])
    assert failed.value.reason == "unavailable"
    assert len(server.bodies) == 1


# ---------------------------------------------------------------------------------------------
# The pairwise critic over HTTP
# ---------------------------------------------------------------------------------------------


def longer(body: dict[str, Any]) -> str:
    text = shown(body)
    return "tie" if len(text["A"]) == len(text["B"]) else "A" if len(text["A"]) > len(text["B"]) else "B"


def test_pairs_are_asked_in_full_words() -> None:
    with ChatServer(longer) as server:
        assert rewards(patient(server), REPLIES, pairwise=True, wording="full") == [0.5, 1.0, 0.0, 0.5, 0.5]
    assert len(server.bodies) == 12  # four different replies, six pairs, two orders


def test_a_few_failures_cost_nothing() -> None:
    with ChatServer(longer, Failures(0.5, seed=3, kinds=("unavailable", "cut", "bad_body"))) as server:
        found = rewards(patient(server, max_attempts=20), REPLIES, pairwise=True, wording="full")
    assert found == [0.5, 1.0, 0.0, 0.5, 0.5]
    assert server.failed.total() > 0


def test_rubbish_is_unreadable_and_a_little_of_it_is_not() -> None:
    with ChatServer(lambda _: "Both are fine!") as server, pytest.raises(JudgeFailedError) as failed:
        rewards(patient(server), ["a", "bb"], pairwise=True, wording="full")
    assert failed.value.reason == "unreadable"

    def one_mute(body: dict[str, Any]) -> str:
        return "hm" if "bb" in shown(body).values() else longer(body)

    with ChatServer(one_mute) as server:
        assert rewards(patient(server), ["a", "bb", "ccc"], pairwise=True, wording="full") == [0.25, 0.5, 0.75]


@given(st.lists(st.integers(1, 6), min_size=2, max_size=8))
@settings(max_examples=15, deadline=None)
def test_ranks_average_one_half_and_follow_the_places(places: list[int]) -> None:
    replies = [f"{place} {number}" for number, place in enumerate(places)]

    def by_place(body: dict[str, Any]) -> str:
        listed = [(text.split()[0], int(name)) for name, text in shown(body).items() if name != "question"]
        ranks = sorted({place for place, _ in listed})
        # Some endpoints write whole numbers with a point.
        return json.dumps({"ranking": [[float(number) for place, number in listed if place == rank] for rank in ranks]})

    with ChatServer(by_place) as server:
        found = rewards(patient(server), replies)
    assert all(0 <= reward <= 1 for reward in found)
    assert sum(found) / len(found) == pytest.approx(0.5)
    for one, place in zip(found, places, strict=True):
        for other, another in zip(found, places, strict=True):
            assert (one > other) == (place < another)
