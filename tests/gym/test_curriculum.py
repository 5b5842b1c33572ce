"""Tasks worth practising: against a policy whose abilities are known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import integrate, stats

from openk2.gym.curriculum import PRIOR, Curriculum
from openk2.schema import Task

K = 8


def task(kind: str, number: int, *tags: str) -> Task:
    return Task(f"{kind}-{number}", "made", kind, "train", {}, tags=tags)


KINDS = {"easy": 0.995, "right": 0.5, "hard": 0.005}
TASKS = [task(kind, number) for kind in KINDS for number in range(200)]


def practise(curriculum: Curriculum, steps: int, *, num: int = 16, rates: dict[str, float] = KINDS) -> list[str]:
    """The kinds chosen while a policy with these pass rates plays."""
    rng, kinds = np.random.default_rng(0), []
    for _ in range(steps):
        chosen = curriculum.choose(num, rng)
        assert len({choice.task.id for choice in chosen}) == num
        kinds += [choice.task.kind for choice in chosen]
        curriculum.learn({c.task.id: (rng.random(K) < rates[c.task.kind]).astype(float).tolist() for c in chosen})
    return kinds


def test_moderate_difficulty_is_kept() -> None:
    kinds = practise(Curriculum(TASKS, k=K), 60)[-400:]
    assert kinds.count("right") > 0.6 * len(kinds)
    assert min(kinds.count("easy"), kinds.count("hard")) > 0.03 * len(kinds), "nothing is given up for good"


def test_a_policy_that_learns_is_followed() -> None:
    curriculum = Curriculum(TASKS, k=K)
    practise(curriculum, 60)
    kinds = practise(curriculum, 150, rates={"easy": 0.99, "right": 0.99, "hard": 0.4})[-400:]
    assert kinds.count("hard") > 0.6 * len(kinds)


def test_within_a_kind_the_tasks_that_differ_are_found() -> None:
    tasks = [task("one", number) for number in range(40)]
    able = {t.id: 0.5 if number < 8 else 0.0 for number, t in enumerate(tasks)}
    curriculum, rng, chosen = Curriculum(tasks, k=K), np.random.default_rng(1), []
    for _ in range(80):
        choices = curriculum.choose(4, rng)
        chosen += [able[c.task.id] > 0 for c in choices]
        curriculum.learn({c.task.id: (rng.random(K) < able[c.task.id]).astype(float).tolist() for c in choices})
    assert np.mean(chosen[-160:]) > 0.4, "a fifth by chance"


def test_estimates_are_those_of_the_posterior() -> None:
    """Against SciPy's Beta distribution, integrated."""
    curriculum = Curriculum([task("one", 0), task("one", 1)], k=K)
    curriculum.learn({"one-0": [1.0] * 3 + [0.0] * 5})
    (seen,) = [choice for choice in curriculum.choose(2, np.random.default_rng(0)) if choice.task.id == "one-0"]
    rate = (3 + 1) / (8 + 2)
    beta = stats.beta(PRIOR * rate + 3, PRIOR * (1 - rate) + 5)
    some = integrate.quad(lambda p: beta.pdf(p) * (1 - (1 - p) ** K), 0, 1)[0]
    mixed = integrate.quad(lambda p: beta.pdf(p) * (1 - (1 - p) ** K - p**K), 0, 1)[0]
    assert seen.rate == pytest.approx(beta.mean())
    assert seen.pass_at_k == pytest.approx(some, abs=1e-9)
    assert seen.mixed == pytest.approx(mixed, abs=1e-9)


def test_thin_tags_are_topped_up() -> None:
    tasks = [task("one", number, "common") for number in range(500)] + [task("one", 500 + i, "rare") for i in range(3)]

    def rare(curriculum: Curriculum) -> int:
        rng, found = np.random.default_rng(0), 0
        for _ in range(20):
            choices = curriculum.choose(8, rng)
            assert all((c.why == "thin") == bool(c.thin) for c in choices)
            found += sum("rare" in c.task.tags for c in choices)
            assert all("rare" in c.task.tags for c in choices if c.thin == "rare")
        return found

    assert rare(Curriculum(tasks, k=K)) >= 19, "one in a hundred by number alone"


def test_it_goes_on_where_it_was_and_logs_plain_json() -> None:
    one = Curriculum(TASKS, k=K)
    practise(one, 5)
    state = json.loads(json.dumps(one.state_dict()))
    two = Curriculum(TASKS, k=K)
    two.load_state_dict(state)
    first, second = (c.choose(16, np.random.default_rng(7)) for c in (one, two))
    assert first == second
    line = json.loads(json.dumps(first[0].to_json()))
    assert line["task"] == first[0].task.id
    assert 0 <= line["mixed"] <= line["pass_at_k"] <= 1
    smaller = Curriculum(TASKS[:50], k=K)
    smaller.load_state_dict(state)
    assert len(smaller.choose(16, np.random.default_rng(7))) == 16


def test_bad_use_is_refused() -> None:
    curriculum = Curriculum(TASKS[:3], k=2)
    with pytest.raises(ValueError, match="4 tasks are asked for, of 3"):
        curriculum.choose(4, np.random.default_rng(0))
    for rewards in ({"easy-0": [1.5]}, {"easy-0": [math.nan]}):
        with pytest.raises(ValueError, match="task easy-0: rewards are between 0 and 1"):
            curriculum.learn(rewards)
    with pytest.raises(ValueError, match="task away is none"):
        curriculum.learn({"away": [1.0]})
    with pytest.raises(ValueError, match="needs tasks"):
        Curriculum([], k=2)
    with pytest.raises(ValueError, match="k is 2 at least"):
        Curriculum(TASKS, k=1)
