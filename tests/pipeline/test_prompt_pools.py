"""Which tasks reinforcement learning draws from, and how often."""

from __future__ import annotations

import pytest

from openk2.pipeline.stages import _prompt_pools
from openk2.recipe import Recipe
from openk2.train.config import CriticTrainingConfig
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


def test_a_family_of_which_nothing_is_shown_has_one_pool_too(recipe: Recipe) -> None:
    assert recipe.rl is not None
    kinds = ("comparison", "sum", "difference", "missing_addend", "story")
    unshown = recipe.model_copy(update={"gym": recipe.gym.model_copy(update={"undemonstrated": {"math": kinds}})})
    pools, shares = _prompt_pools(unshown, recipe.rl.model_copy(update={"shown_share": 0.2}))
    assert shares == pytest.approx({"tools": 0.4, "tools-shown": 0.1, "math": 0.25, "logic": 0.25})
    assert {task.kind for task in pools["math"]} == set(kinds)


def test_what_no_critic_can_judge_is_refused(recipe: Recipe) -> None:
    assert recipe.rl is not None
    critic = CriticTrainingConfig(families=("tools",))
    with pytest.raises(ValueError, match=r"rl\.critic\.families: tasks of tools have no question"):
        _prompt_pools(recipe, recipe.rl.model_copy(update={"critic": critic}))
    _prompt_pools(recipe, recipe.rl.model_copy(update={"critic": CriticTrainingConfig(families=("math",))}))
