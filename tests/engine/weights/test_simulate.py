"""An update of a trillion parameters on paper."""

from pathlib import Path

import pytest
from rich.console import Console

from openk2.engine.weights.simulate import PUBLISHED_SECONDS, Cluster, simulate, simulated_table
from openk2.model.count import count_parameters
from openk2.recipe import Recipe

K2 = Recipe.load(Path(__file__).parents[3] / "recipes" / "kimi-k2.toml").model


def test_a_small_cluster_by_hand():
    cluster = Cluster(
        ranks=4, ranks_per_node=2, ranks_per_replica=2, pcie=10, nvlink=50, network=20, memory=50, bucket_bytes=100
    )
    times = simulate(1000, cluster)  # 10 buckets in 3 waves: copy 10 s, broadcast 5 s, reload 1 s
    assert times.copy == pytest.approx(3 * 10)
    assert times.broadcast == pytest.approx(50)
    assert times.reload == pytest.approx(10)
    assert times.pipeline == pytest.approx(50 + 10 + 1)
    assert times.two_stage == pytest.approx(3 * (10 + 1) + 10 * 5)


def test_one_node_needs_no_network():
    one = Cluster(ranks=8, ranks_per_node=8, ranks_per_replica=8, network=1.0)
    assert simulate(1e12, one).broadcast == pytest.approx(1e12 / one.nvlink, rel=1e-3)


def test_k2_in_fp8_has_a_floor_below_what_was_published():
    assert (
        simulate(1.03e12, Cluster()).two_stage < PUBLISHED_SECONDS < simulate(1.03e12, Cluster(network=50e9)).two_stage
    )


def test_the_table_says_what_is_published():
    with (console := Console(width=140)).capture() as captured:
        console.print(simulated_table(K2, "kimi-k2"))
    text = captured.get()
    assert f"{count_parameters(K2).total_with_bias:,} parameters" in text
    assert f"{PUBLISHED_SECONDS} s" in text
    assert "< 30 s" in text


def test_half_a_node_is_refused():
    with pytest.raises(ValueError, match="12 ranks are no whole number of nodes of 8"):
        Cluster(ranks=12)
