"""What holds in every family: gold earns all, idle and dishonest agents nothing, a random one little."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from functools import cache

import pytest

from openk2.gym import catalogue
from openk2.gym.agents import DISHONEST
from openk2.gym.family import Family
from openk2.gym.measure import measure
from openk2.schema import Env, Task

FEW, MANY = 12, 200  # tasks of each split
FEWER = {"execution": 2, "code": 4, "swe": 2, "scenario": 40}  # where an episode takes a sandbox, or a task is long
SPLIT_BY_NAME = ("scenario", "execution")  # any word is a split


@cache
def some(name: str, most: int = FEW) -> tuple[Family, Sequence[Task]]:
    """A family and tasks of all its splits and kinds, by turns."""
    family, most = catalogue.family(name), min(most, FEWER.get(name, most))
    found: list[Task] = []
    for split in family.splits:
        found += family.make().tasks(split)[:most]
    return family, found


@pytest.mark.parametrize("name", catalogue.NAMES)
def test_it_is_an_environment_with_tasks_that_survive_a_file(name: str) -> None:
    family, tasks = some(name)
    assert family.name == name
    assert isinstance(family.make(), Env)
    assert len({task.id for task in tasks}) == len(tasks) >= 4
    for task in tasks:
        assert task.family == name
        assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task
    if name not in SPLIT_BY_NAME:
        with pytest.raises(ValueError, match="nowhere"):
            family.make().tasks("nowhere")


@pytest.mark.parametrize("name", catalogue.NAMES)
def test_gold_earns_all(name: str) -> None:
    family, tasks = some(name)
    measured = asyncio.run(measure(family, family.gold, tasks))
    assert (measured.passed.value, measured.broken) == (1.0, {})


@pytest.mark.parametrize("agent", DISHONEST)
@pytest.mark.parametrize("name", catalogue.NAMES)
def test_idle_and_dishonest_agents_earn_nothing(name: str, agent: str) -> None:
    family, tasks = some(name)
    measured = asyncio.run(measure(family, DISHONEST[agent], tasks))
    assert (measured.earned, measured.broken) == ((), {})


@pytest.mark.parametrize("name", catalogue.NAMES)
def test_a_random_agent_stays_at_chance(name: str) -> None:
    family, tasks = some(name, MANY)
    measured = asyncio.run(measure(family, family.guess, tasks))
    assert measured.passed.low <= family.chance, "its interval lies above chance"
    assert not measured.broken


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(ValueError, match="no task family called 'maths'; there are math, logic"):
        catalogue.family("maths")
