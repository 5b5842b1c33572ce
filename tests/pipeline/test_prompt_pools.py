"""Which tasks reinforcement learning draws from, and how often."""

from __future__ import annotations

import pytest

from openk2.pipeline.stages import _prompt_pools
from openk2.recipe import Recipe
from tests.pipeline.conftest import write_recipe

FAMILIES = """
[rl.families]
tools = 0.5
math = 0.25
logic = 0.25

[gym.undemonstrated]
math = ["comparison"]
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return Recipe.load(write_recipe(tmp_path_factory.mktemp("recipes") / "tiny.toml", FAMILIES))


def test_a_share_of_each_family_is_of_kinds_that_demonstrations_show(recipe: Recipe) -> None:
    assert recipe.rl is not None
    pools, shares = _prompt_pools(recipe, recipe.rl.model_copy(update={"shown_share": 0.2}))
    expected = {"tools": 0.4, "tools-shown": 0.1, "math": 0.2, "math-shown": 0.05, "logic": 0.25}
    assert shares == pytest.approx(expected), "all of logic is shown: it has one pool"
    assert pools.keys() == shares.keys()
    assert {task.kind for task in pools["math"]} == {"comparison"}
    assert {task.kind for task in pools["math-shown"]} == {"sum", "difference", "missing_addend", "story"}
    assert not {task.id for task in pools["tools"]} & {task.id for task in pools["tools-shown"]}


def test_without_it_there_is_one_pool_a_family(recipe: Recipe) -> None:
    assert recipe.rl is not None
    assert _prompt_pools(recipe, recipe.rl)[1] == recipe.rl.families
