from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from openk2.stats import avg_at_k, mcnemar, mean_interval, paired_difference, pass_at_k, t_interval, wilson


@settings(max_examples=100)
@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_scipy(case: tuple[int, int]) -> None:
    passed, n = case
    ours = wilson(passed, n)
    theirs = scipy_stats.binomtest(passed, n).proportion_ci(0.95, method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert ours.low <= ours.value <= ours.high


@settings(max_examples=100)
@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_equals_the_binomial_test(gained: int, lost: int) -> None:
    expected = scipy_stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected, abs=1e-9)


def test_paired_difference_against_scipy_bootstrap() -> None:
    rng = np.random.default_rng(0)
    before = rng.random(400) < 0.5
    after = before ^ (rng.random(400) < 0.2)
    ours = paired_difference(before.tolist(), after.tolist(), seed=1)
    difference = after.astype(float) - before.astype(float)
    theirs = scipy_stats.bootstrap(
        (difference,), np.mean, method="percentile", n_resamples=10_000, random_state=np.random.default_rng(2)
    ).confidence_interval
    assert ours.value == pytest.approx(difference.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)
    assert ours.num_gained == int((difference > 0).sum())
    assert ours.num_lost == int((difference < 0).sum())


def test_the_paired_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(200):
        draws = rng.choice([1, -1, 0], p=[0.25, 0.10, 0.65], size=300)
        found = paired_difference((draws == -1).tolist(), (draws == 1).tolist(), seed=trial, num_resamples=1000)
        covered += found.low <= 0.15 <= found.high
    assert 180 <= covered <= 200


def test_pairing_sees_what_separate_intervals_do_not() -> None:
    before = [i < 200 for i in range(400)]
    after = [i < 220 for i in range(400)]
    found = paired_difference(before, after, seed=0)
    assert found.low > 0
    assert found.p_value < 1e-4
    assert wilson(200, 400).high > wilson(220, 400).low


def test_mean_interval_against_scipy() -> None:
    values = np.random.default_rng(4).gamma(2.0, size=300)
    ours = mean_interval(values.tolist(), seed=5)
    theirs = scipy_stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=10_000, random_state=np.random.default_rng(6)
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_the_seed_decides() -> None:
    values = np.random.default_rng(8).random(50).tolist()
    assert mean_interval(values, seed=1) == mean_interval(values, seed=1)
    assert mean_interval(values, seed=1) != mean_interval(values, seed=2)


@settings(max_examples=60)
@given(st.lists(st.booleans(), min_size=1, max_size=9), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_pass(samples: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(samples)))
    subsets = list(itertools.combinations(samples, k))
    expected = sum(any(subset) for subset in subsets) / len(subsets)
    assert pass_at_k(len(samples), sum(samples), k) == pytest.approx(expected)


def test_avg_at_k_clusters_over_tasks() -> None:
    rng = np.random.default_rng(7)
    passed = rng.random(100) < 0.5
    clustered = avg_at_k([[float(p)] * 8 for p in passed], seed=0)
    naive = mean_interval(np.repeat(passed, 8).astype(float).tolist(), seed=0)
    assert clustered.n == 100
    assert clustered.value == pytest.approx(naive.value)
    assert clustered.high - clustered.low > 2 * (naive.high - naive.low)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="3 of 2"):
        wilson(3, 2)
    with pytest.raises(ValueError, match="n > 0"):
        wilson(0, 0)
    with pytest.raises(ValueError, match="same tasks twice, got 1 and 2"):
        paired_difference([True], [True, False], seed=0)
    with pytest.raises(ValueError, match="pass@5"):
        pass_at_k(4, 1, 5)
    with pytest.raises(ValueError, match="same number of samples"):
        avg_at_k([[1.0], [1.0, 0.0]], seed=0)
    with pytest.raises(ValueError, match="at least one value"):
        mean_interval([], seed=0)


@settings(max_examples=50)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=11))
def test_t_interval_equals_scipy(values: list[float]) -> None:
    ours = t_interval(values)
    reach = scipy_stats.t.ppf(0.975, len(values) - 1) * scipy_stats.tstd(values) / len(values) ** 0.5
    assert ours.value == pytest.approx(np.mean(values), abs=1e-9)
    assert ours.high - ours.low == pytest.approx(2 * reach, rel=1e-3, abs=1e-9)


def test_t_interval_wants_two_values_and_errs_wide_beyond_its_table() -> None:
    with pytest.raises(ValueError, match="at least two values, got 1"):
        t_interval([1.0])
    values = [float(i % 7) for i in range(40)]
    reach = scipy_stats.t.ppf(0.975, 39) * scipy_stats.tstd(values) / 40**0.5
    assert 2 * reach < t_interval(values).high - t_interval(values).low < 2.4 * reach
