"""Intervals, paired tests, pass@k and Avg@k: how sure a number is.

All intervals are 95 %. What is random (the bootstraps) is drawn from the seed given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z95 = 1.959963984540054
"""The normal quantile that leaves 2.5 % on either side."""
RESAMPLES = 10_000
_CELLS = 1_000_000  # numbers a bootstrap holds in memory at once


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval, from ``n`` independent units."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How much two runs over the same tasks differ (after minus before).

    ``num_gained`` tasks passed only after, ``num_lost`` only before; ``p_value`` is the exact
    two-sided McNemar test on those two counts.
    """

    value: float
    low: float
    high: float
    n: int
    num_gained: int
    num_lost: int
    p_value: float


def wilson(num_passed: int, n: int) -> Estimate:
    """A proportion with its Wilson score interval: honest near 0 and 1, where the normal one is not.

    Raises ValueError unless 0 <= num_passed <= n and n > 0.
    """
    if n <= 0 or not 0 <= num_passed <= n:
        raise ValueError(f"a proportion needs 0 <= passed <= n and n > 0, got {num_passed} of {n}")
    share = num_passed / n
    scale = 1.0 + Z95**2 / n
    centre = (share + Z95**2 / (2 * n)) / scale
    half = Z95 / scale * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    low = 0.0 if num_passed == 0 else centre - half
    high = 1.0 if num_passed == n else centre + half
    return Estimate(share, low, high, n)


def mcnemar(num_gained: int, num_lost: int) -> float:
    """Exact two-sided McNemar p: the chance of so uneven a split if gain and loss were alike."""
    discordant = num_gained + num_lost
    tail = sum(math.comb(discordant, i) for i in range(min(num_gained, num_lost) + 1))
    return min(1.0, 2 * tail / (1 << discordant))


def paired_difference(
    before: Sequence[bool], after: Sequence[bool], *, seed: int, num_resamples: int = RESAMPLES
) -> PairedDifference:
    """Compare two pass vectors over the same tasks, in the same order.

    The interval is the percentile bootstrap over tasks. A resample of tasks is a multinomial draw of
    (gained, lost, same), so it costs nothing to draw many. Raises ValueError for unequal or empty vectors.
    """
    if len(before) != len(after) or not before:
        raise ValueError(f"a paired comparison needs the same tasks twice, got {len(before)} and {len(after)}")
    n = len(before)
    gained = sum(b and not a for a, b in zip(before, after, strict=True))
    lost = sum(a and not b for a, b in zip(before, after, strict=True))
    draws = np.random.default_rng(seed).multinomial(n, np.array([gained, lost, n - gained - lost]) / n, num_resamples)
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / n, [0.025, 0.975])
    return PairedDifference((gained - lost) / n, float(low), float(high), n, gained, lost, mcnemar(gained, lost))


def mean_interval(values: Sequence[float], *, seed: int, num_resamples: int = RESAMPLES) -> Estimate:
    """A mean with its percentile-bootstrap interval. Equal values give an interval of no width.

    Raises ValueError without values.
    """
    if not len(values):
        raise ValueError("a mean needs at least one value")
    data = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    rows = max(1, _CELLS // len(data))
    means = [
        data[rng.integers(len(data), size=(min(rows, num_resamples - start), len(data)))].mean(axis=1)
        for start in range(0, num_resamples, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return Estimate(float(data.mean()), float(low), float(high), len(data))


# The 97.5 % quantile of Student's t for 1, 2, … degrees of freedom; beyond, the last one errs to the wide side.
_T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def t_interval(values: Sequence[float]) -> Estimate:
    """A mean of few values with Student's interval: for seeds, where a bootstrap of three values is too narrow.

    Raises ValueError for fewer than two.
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs at least two values, got {len(values)}")
    data = np.asarray(values, dtype=np.float64)
    quantile = _T_QUANTILES[min(len(data) - 1, len(_T_QUANTILES)) - 1]
    reach = quantile * data.std(ddof=1) / math.sqrt(len(data))
    return Estimate(float(data.mean()), float(data.mean() - reach), float(data.mean() + reach), len(data))


def pass_at_k(num_samples: int, num_passed: int, k: int) -> float:
    """The unbiased chance that one of ``k`` samples passes, from ``num_samples`` >= k drawn (Chen et al. 2021)."""
    if not 0 < k <= num_samples or not 0 <= num_passed <= num_samples:
        raise ValueError(f"pass@{k} needs {k} or more samples, got {num_samples} with {num_passed} passed")
    return 1.0 - math.comb(num_samples - num_passed, k) / math.comb(num_samples, k)


def avg_at_k(scores: Sequence[Sequence[float]], *, seed: int) -> Estimate:
    """Avg@k: the mean over tasks of the mean of each task's k samples (K2 §4).

    Samples of one task are alike, so the interval resamples whole tasks; ``n`` counts tasks.
    Raises ValueError when a task has no samples or tasks have different numbers of them.
    """
    if len({len(samples) for samples in scores}) != 1 or not scores[0]:
        raise ValueError("Avg@k needs the same number of samples, at least one, for every task")
    return mean_interval([math.fsum(samples) / len(samples) for samples in scores], seed=seed)
