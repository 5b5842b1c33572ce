"""Fit the judge's weights on generated pairs and write them into the package: ``python -m openk2.gym.faithfulness.train``."""

from __future__ import annotations

import sys

import numpy as np

from openk2.gym.faithfulness.features import Evidence, Vector
from openk2.gym.faithfulness.judge import WEIGHTS, Weights
from openk2.gym.faithfulness.pairs import pairs

NUM_PAIRS = 12_000
SEED = 0
_STEPS = 4000
_PENALTY = 1e-5


def fit(num_pairs: int = NUM_PAIRS, seed: int = SEED) -> Weights:
    """A logistic regression on ``num_pairs`` training pairs whose weights are at least 0.

    So a sentence that differs more from its context never looks better supported: nothing is gained by adding a fault.
    """
    rows, labels = [], []
    for pair in pairs(seed, num_pairs, heldout=False):
        evidence = Evidence(pair.context)
        rows.append(evidence.features(evidence.reader().clauses(pair.sentence)))
        labels.append(pair.unsupported)
    return _regress(np.array(rows), np.array(labels, dtype=np.float64))


def _regress(rows: Vector, labels: Vector) -> Weights:
    """Minimise the log loss and a small square penalty by accelerated projected gradients."""
    x, which, counts = np.unique(
        np.column_stack([rows, np.ones(len(rows))]), axis=0, return_inverse=True, return_counts=True
    )
    wrong = np.bincount(which.ravel(), labels) / len(labels)  # the share of all pairs that look so and are unsupported
    shares = counts / len(labels)
    step = 1 / (0.25 * np.linalg.norm(x * np.sqrt(shares)[:, None], 2) ** 2 + _PENALTY)
    weights = ahead = np.zeros(x.shape[1])
    for turn in range(_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(x @ ahead, -60, 60)))
        moved = ahead - step * (x.T @ (chance * shares - wrong) + _PENALTY * ahead)
        moved[:-1] = np.maximum(moved[:-1], 0)
        ahead = moved + turn / (turn + 3) * (moved - weights)
        weights = moved
    return Weights(round(float(weights[-1]), 6), tuple(round(float(weight), 6) for weight in weights[:-1]))


def main() -> int:
    """Fit and write."""
    fit().save(WEIGHTS)
    print(f"wrote {WEIGHTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
