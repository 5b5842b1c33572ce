"""Memory on paper agrees with hand sums and with K2 §2.4."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.parallel.plan import Layout, Sizes, plan, sizes_of
from openk2.recipe import Recipe

K2 = sizes_of(Recipe.load(Path(__file__).parents[2] / "recipes" / "kimi-k2.toml").model)
SMALL = Sizes(
    num_dense_layers=1,
    num_moe_layers=5,
    dense_layer=100,
    num_experts=8,
    moe_layer_experts=800,
    moe_layer_rest=50,
    embedding=1000,
    head=1001,
)


def test_two_stages_by_hand():
    first, last = plan(SMALL, Layout(pipeline=2, expert=4, data=3)).stages
    # first stage: dense, 2 MoE layers, embedding; last: 3 MoE layers, head. Experts are divided by 4.
    assert first.parameters == 2 * (100 + 2 * (200 + 50) + 1000)
    assert first.gradients == 2 * first.parameters
    assert first.optimizer == pytest.approx(8 * (2 * 200 / 3 + (100 + 2 * 50) / 12) + 12 * 1000 / 12)
    assert last.parameters == 2 * (3 * (200 + 50) + 1001)


@settings(max_examples=50)
@given(st.integers(1, 6), st.integers(1, 5))
def test_undivided_experts_add_up_to_the_model(pipeline: int, data: int):
    divided = plan(SMALL, Layout(pipeline, 1, data))
    assert sum(stage.parameters for stage in divided.stages) == 2 * SMALL.total
    states = 8 * (SMALL.total - 2001) + 12 * 2001
    assert data * sum(stage.optimizer for stage in divided.stages) == pytest.approx(states)


def test_k2_comes_near_the_papers_figures():
    assert K2.total == 1_026_408_209_408
    assert K2.total * 6 / 1e12 == pytest.approx(6, rel=0.03)  # "approximately 6 TB"
    divided = plan(K2, Layout(pipeline=16, expert=16, data=16))
    assert divided.mean.total / 1e9 == pytest.approx(30, rel=0.05)  # "approximately 30 GB"


def test_the_ends_get_a_left_over_layer_last():
    moe_layer = 2 * (800 + 50)
    stages = plan(SMALL, Layout(pipeline=4, expert=1, data=1)).stages  # layers: 1, 2, 2, 1
    assert [stage.parameters for stage in stages] == [2 * 1100, 2 * moe_layer, 2 * moe_layer, moe_layer + 2 * 1001]


def test_impossible_layouts_are_refused():
    with pytest.raises(ValueError, match="7 pipeline stages, but only 6 layers"):
        plan(SMALL, Layout(pipeline=7))
    with pytest.raises(ValueError, match="8 experts do not divide into 3"):
        plan(SMALL, Layout(pipeline=2, expert=3))
    with pytest.raises(ValueError, match="expert parallelism must be at least 1, got 0"):
        Layout(expert=0)
