"""How often attacks had success, by category and strategy (K2 §4, table of the red team)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from openk2.gym.safety.attackers import Attempt
from openk2.stats import Estimate, wilson

ITERATIVE = "iterative"


@dataclass(frozen=True, slots=True)
class Rate:
    """The share of behaviours that gave way, with its 95 % Wilson interval; None when none was decided.

    ``num_undecided`` behaviours have neither a success nor a no: calls failed, or the judge's answers could not be read.
    """

    success: Estimate | None
    num_undecided: int


def success_rates(attempts: Iterable[Attempt]) -> dict[tuple[str, str], Rate]:
    """By category and strategy, over behaviours.

    A strategy's column is its bare form, tried once on each behaviour. "iterative" is all that was tried, evolution
    included: whether the behaviour gave way at all.
    """
    seen: dict[tuple[str, str], dict[str, list[Attempt]]] = defaultdict(lambda: defaultdict(list))
    for attempt in attempts:
        columns = [ITERATIVE] if attempt.generation else [ITERATIVE, *attempt.prompt.strategies]
        for column in columns:
            seen[attempt.category, column][attempt.behaviour].append(attempt)
    return {cell: _rate(list(tried.values())) for cell, tried in sorted(seen.items())}


def _rate(behaviours: list[list[Attempt]]) -> Rate:
    decided = [tried for tried in behaviours if any(attempt.decided for attempt in tried)]
    broken = sum(any(attempt.succeeded for attempt in tried) for tried in decided)
    return Rate(wilson(broken, len(decided)) if decided else None, len(behaviours) - len(decided))


def table(rates: dict[tuple[str, str], Rate]) -> str:
    """The rates in per cent as Markdown, categories down, strategies across."""
    categories = sorted({category for category, _ in rates})
    strategies = sorted({strategy for _, strategy in rates})
    rows = [["", *strategies], ["---"] * (len(strategies) + 1)]
    rows += [
        [category, *(_cell(rates.get((category, strategy))) for strategy in strategies)] for category in categories
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(rate: Rate | None) -> str:
    if rate is None or rate.success is None:
        return "–"
    found = rate.success
    return f"{found.value:.0%} [{found.low:.0%}, {found.high:.0%}]".replace("%", "")
