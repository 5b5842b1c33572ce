"""Which rank orthogonalises which matrix when ranks share the work."""

from __future__ import annotations

from collections.abc import Sequence

from openk2.optim.newton_schulz import cheaper_form, products


def cost(num_rows: int, num_columns: int, steps: int) -> int:
    """Operations of Newton-Schulz on one matrix."""
    return products(num_rows, num_columns, steps, cheaper_form(num_rows, num_columns, steps))


def assign(costs: Sequence[int], num_ranks: int) -> list[int]:
    """The owner of each matrix: the largest first, each to the rank with the least so far, the lower one on a tie.

    A function of the costs alone, so that all ranks come to the same answer without talking. No rank gets more than
    4/3 of the best split's largest share (Graham, "Bounds on multiprocessing timing anomalies", 1969).
    """
    loads = [0] * num_ranks
    owners = [0] * len(costs)
    for matrix in sorted(range(len(costs)), key=lambda number: -costs[number]):
        owners[matrix] = loads.index(min(loads))
        loads[owners[matrix]] += costs[matrix]
    return owners
