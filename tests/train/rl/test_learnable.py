"""What a step can learn from: each way not to be of use has a name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from openk2.schema import Score, Segment, Task, Trace
from openk2.train.rl.learnable import learnable
from openk2.train.rl.rollout import Group
from openk2.train.rl.told import describe

TASK = Task("t", "begin", "kind", "rl", {})


def trace(reward: float | None, **changes: Any) -> Trace:
    version = changes.pop("version", 5)
    logprob = changes.pop("logprob", -1.0)
    experts = changes.pop("experts", None)
    info = (
        {"family": "begin", "kind": "kind"} | ({} if reward is None else {"reward": reward}) | changes.pop("info", {})
    )
    segments = [
        Segment("prompt", [1, 2], [False, False], experts=experts),
        Segment("sampled", [3, 4], [True, True], [-0.5, logprob], version, 1.0, None),
    ]
    made = Trace("t#1.0", "t", 1, "hash", segments, [], [], "done", Score(reward or 0.0), info=info)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def group(*traces: Trace, number: int = 0) -> Group:
    return Group(number, TASK, 7, dict(enumerate(traces)))


def learn(*groups: Group, **changes: Any) -> list[Any]:
    settings: dict[str, Any] = {"weight_version": 5, "max_staleness": 2, "tokenizer_hash": "hash"}
    return learnable(groups, **(settings | changes))


def test_advantages_are_those_of_the_group() -> None:
    samples = learn(group(trace(1.0), trace(0.0), trace(0.0), trace(1.0)), group(trace(0.25), trace(0.75), number=1))
    assert [sample.advantage for sample in samples] == [0.5, -0.5, -0.5, 0.5, -0.25, 0.25]
    assert [sample.staleness for sample in samples] == [0] * 6


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tokenizer_hash": "other"}, "other_tokenizer"),
        ({"version": 6}, "future_version"),
        ({"version": 2}, "stale"),
        ({"logprob": float("nan")}, "no_logprobs"),
        ({"logprob": float("-inf")}, "no_logprobs"),
        ({"info": {"dropped": "env_raised"}}, "env_raised"),
    ],
)
def test_each_way_to_be_of_no_use_has_a_name(changes: dict[str, Any], reason: str) -> None:
    bad = trace(1.0, **changes)
    groups = [group(bad, trace(0.0), trace(1.0))]
    samples = learn(*groups)
    assert bad.info["dropped"] == reason
    assert [sample.advantage for sample in samples] == [-0.5, 0.5], "the others are compared without it"
    assert describe(groups, samples)[f"dropped/{reason}"] == 1


@pytest.mark.parametrize("limit", [0, 2])
def test_what_is_just_not_too_old_is_learnt_from(limit: int) -> None:
    ages = (0, limit, limit + 1)
    traces = [trace(float(i % 2), version=5 - age) for i, age in enumerate(ages)]
    samples = learn(group(*traces), max_staleness=limit)
    assert [sample.staleness for sample in samples] == [0, limit]
    assert traces[2].info["dropped"] == "stale"


def test_one_alone_is_no_group() -> None:
    groups = [group(trace(1.0), trace(None, info={"dropped": "judge_unavailable"})), group(number=1)]
    assert learn(*groups) == []
    told = describe(groups, [])
    assert (told["dropped/empty_group"], told["dropped/judge_unavailable"]) == (1, 1)
    assert "reward" not in told, "there is no mean of nothing"


def test_equal_rewards_teach_nothing_on_policy_and_hold_back_what_is_stale() -> None:
    fresh, stale = group(trace(0.5), trace(0.5)), group(trace(0.5, version=4), trace(0.5, version=4), number=1)
    samples = learn(fresh, stale)
    assert [(sample.advantage, sample.staleness) for sample in samples] == [(0.0, 1), (0.0, 1)]
    told = describe([fresh, stale], samples)
    assert (told["mixed_groups"], told["dropped/uniform_group"], told["staleness"]) == (0.0, 2, 1.0)


def test_router_replay_wants_the_experts_of_all_tokens_but_the_last() -> None:
    known = np.zeros((3, 2, 2), np.int16)
    whole, cut = trace(1.0, experts=known), trace(0.0, experts=known[:2])
    samples = learn(group(whole, cut, trace(0.0, experts=known)), needs_experts=True)
    assert cut.info["dropped"] == "no_experts"
    assert len(samples) == 2
